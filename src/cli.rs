//! The command line.

use clap::Parser;

use crate::commands::Command;
use crate::globals::Globals;

/// Manages the nodes and objects of a Kubernetes cluster with a manifest: plans changes, applies exactly what was planned, and
/// detects drift.
#[derive(Debug, Parser)]
#[command(
    name = "moorfast",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Long options are also accepted with one dash, as in Terraform: -auto-approve, -var x=y.\n\
    Exit codes: 0 success, 1 error, 2 changes (plan --detailed-exitcode) or drift (drift); docs/exit-codes.md lists all.")]
pub struct Cli {
    /// The options that all commands have.
    #[command(flatten)]
    pub globals: Globals,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::single_dash_options;

    #[test]
    fn the_examples_of_the_help_are_valid() {
        let examples: Vec<String> = Cli::command()
            .get_subcommands()
            .filter_map(|command| command.get_after_long_help().map(ToString::to_string))
            .flat_map(|help| help.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(examples.len() > 30, "the help has examples");
        for example in examples {
            let line = example.trim().split("  ").next().unwrap_or_default().replace('\'', "");
            let words = single_dash_options::normalise(&Cli::command(), line.split_whitespace().map(Into::into));
            assert!(Cli::try_parse_from(words).is_ok(), "{example}");
        }
    }
}

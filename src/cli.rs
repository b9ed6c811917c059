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
    Exit codes: 0 success, 1 error, 2 changes (plan --detailed-exitcode) or drift (drift); `moorfast explain exit-codes` lists all.")]
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
    use std::fs;
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;
    use clap::error::ErrorKind;

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

    #[test]
    fn the_commands_of_the_documentation_are_valid() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let pages = ["docs", "examples"].iter().flat_map(|folder| pages(&root.join(folder)));
        let pages = pages.chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
        let (mut found, mut wrong) = (0, Vec::new());
        // This page is the help itself.
        for page in pages.filter(|page| !page.ends_with("docs/cli.md")) {
            let text = fs::read_to_string(&page).unwrap_or_default();
            for command in commands(&text) {
                found += 1;
                let words = single_dash_options::normalise(&Cli::command(), words(command).into_iter().map(Into::into));
                // A text can name a command or an option without its arguments.
                let wrong_name =
                    [ErrorKind::InvalidSubcommand, ErrorKind::UnknownArgument, ErrorKind::ArgumentConflict];
                match Cli::try_parse_from(words) {
                    Err(error) if wrong_name.contains(&error.kind()) => {
                        wrong.push(format!("{}: {command}\n{error}", page.display()));
                    }
                    _ => {}
                }
            }
        }
        assert!(found > 200, "commands were found: {found}");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn pages(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let all = entries.flat_map(|path| if path.is_dir() { pages(&path) } else { vec![path] });
        all.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    }

    /// Returns the commands of a page: the lines of its blocks, those with a prompt if the block shows output too, and the words between backticks.
    fn commands(page: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for (i, part) in page.split("```").enumerate().filter(|(_, part)| !part.starts_with("toml")) {
            let is_block = i % 2 == 1;
            let separator = if is_block { '\n' } else { '`' };
            let start = if is_block && part.starts_with("console") { "$ moorfast " } else { "moorfast " };
            let spans = part.split(separator).enumerate().filter(|(i, _)| is_block || i % 2 == 1);
            let spans = spans.map(|(_, span)| span.trim()).filter(|span| span.starts_with(start));
            found.extend(spans.map(|span| span.trim_start_matches("$ ")));
        }
        found
    }

    /// Returns the words of the first command of a shell line.
    fn words(line: &str) -> Vec<String> {
        let words = shlex::split(line).unwrap_or_default();
        let ends = |word: &String| word.starts_with(['|', '>', '<', '&', ';']) || word == "2>&1";
        words.into_iter().take_while(|word| !ends(word)).map(|word| word.trim_end_matches(';').to_owned()).collect()
    }
}

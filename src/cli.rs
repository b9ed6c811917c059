//! The command line: the options that all commands have, and the commands.

use std::path::PathBuf;

use clap::{ColorChoice, Parser};

use crate::commands::Command;

/// Ties the machines and the objects of a Kubernetes cluster to a manifest: shows what would change, does exactly that, and says when
/// the world drifted.
#[derive(Debug, Parser)]
#[command(
    name = "moorfast",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Options may be written as Terraform does, with one dash: -auto-approve, -var x=y.\n\
    Exit codes: 0 success, 1 failure, 2 changes or drift where asked for; docs/exit-codes.md has all.")]
pub struct Cli {
    /// The options that all commands have.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The options that all commands have.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Work as if started in this folder
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// The manifest: a TOML file, or a folder of them
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = ".",
        env = "MOORFAST_MANIFEST",
        hide_env_values = true
    )]
    pub manifest: PathBuf,
    /// The folder of the state and of all else that moorfast keeps [default: .moorfast beside the manifest]
    #[arg(long, global = true, value_name = "DIR", env = "MOORFAST_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// The name of the site and environment in plans, pages and comments [default: the folder of the manifest, as a path in its repository]
    #[arg(long, global = true, value_name = "NAME", env = "MOORFAST_SITE", hide_env_values = true)]
    pub site: Option<String>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// No colours, as Terraform spells it
    #[arg(long, global = true, hide = true)]
    pub no_color: bool,
    /// What to log to standard error: a level such as `debug`, or `moorfast_ssh=trace`
    #[arg(long, global = true, value_name = "LEVEL", env = "MOORFAST_LOG", hide_env_values = true)]
    pub log: Option<String>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

impl Globals {
    /// The colours as the streams want to know it.
    pub fn color(&self) -> anstream::ColorChoice {
        match self.color {
            _ if self.no_color => anstream::ColorChoice::Never,
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        }
    }
}

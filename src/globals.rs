//! The options that all commands have.

use std::path::PathBuf;

use clap::ColorChoice;
use moorfast_engine::state::EnvironmentName;

use crate::completer::{Names, completer};

/// The options that all commands have.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Change to this folder before running the command
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
    /// The folder of the state and of moorfast's other files [default: .moorfast beside the manifest]
    #[arg(long, global = true, value_name = "DIR", env = "MOORFAST_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// The name of the site in plans, HTML pages and comments [default: the path of the manifest's folder in its repository]
    #[arg(long, global = true, value_name = "NAME", env = "MOORFAST_SITE", hide_env_values = true)]
    pub site: Option<String>,
    /// The environment to use, one of [environments.NAME] in the manifest
    #[arg(long, global = true, value_name = "NAME", env = "MOORFAST_ENV", hide_env_values = true, add = completer(Names::Environments))]
    pub env: Option<EnvironmentName>,
    /// Refuse data sources that run commands on this machine, for a manifest that nobody reviewed
    #[arg(long, global = true, env = "MOORFAST_NO_LOCAL_COMMANDS", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_local_commands: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Disable colours (Terraform's spelling)
    #[arg(long, global = true, hide = true)]
    pub no_color: bool,
    /// Log to standard error: a level such as `debug`, or a module and its level such as `moorfast_ssh=trace`
    #[arg(long, global = true, value_name = "LEVEL", env = "MOORFAST_LOG", hide_env_values = true)]
    pub log: Option<String>,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

impl Globals {
    /// Returns the choice of colours for the output streams.
    pub fn color(&self) -> anstream::ColorChoice {
        match self.color {
            _ if self.no_color => anstream::ColorChoice::Never,
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        }
    }
}

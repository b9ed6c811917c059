//! The command line of moorfast, as a library: a binary is a list of providers and a call of [`run`].
//!
//! ```no_run
//! let exit_code: std::process::ExitCode = moorfast::run(&[moorfast::ssh, moorfast::kubernetes]);
//! ```
//!
//! `docs/writing-a-provider.md` explains how to add a provider of one's own; `examples/provider` is such a binary.

mod argv;
mod ask;
mod atomic;
mod backend;
mod cli;
mod commands;
mod drift_history;
mod error;
mod exit;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hints;
mod inputs;
mod plan_file;
mod planning;
mod render;
mod session;
mod signals;
mod signature;
mod ui;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use moorfast_engine::provider::Provider;
use tracing::Level;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::{Cli, Globals};
use crate::error::Error;
use crate::exit::Exit;
use crate::session::Session;
use crate::ui::Ui;

/// A function that builds a provider for one run.
pub type ProviderFactory = fn(&RunOptions) -> Arc<dyn Provider>;

/// The options of a run that a provider may need before it is configured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The folder of the manifest.
    pub root: PathBuf,
    /// The folder where moorfast keeps its own files: `.moorfast` beside the manifest, unless `--state` names another.
    pub data_dir: PathBuf,
}

/// Builds the provider `ssh`: files, packages, units and users of a node.
pub fn ssh(_: &RunOptions) -> Arc<dyn Provider> {
    Arc::new(moorfast_ssh::SshProvider)
}

/// Builds the provider `kubernetes`: objects, bootstrap tokens, nodes and certificates of a cluster.
pub fn kubernetes(_: &RunOptions) -> Arc<dyn Provider> {
    Arc::new(moorfast_kubernetes::KubernetesProvider)
}

/// Runs the command line of this process with these providers.
///
/// Manifests, the JSON Schema, the reference pages and `moorfast version` know exactly these providers. Call it once in a process.
pub fn run(providers: &[ProviderFactory]) -> ExitCode {
    run_command_line(providers, argv::normalise(&Cli::command(), std::env::args_os())).into()
}

fn run_command_line(providers: &[ProviderFactory], arguments: Vec<OsString>) -> Exit {
    let parsed = Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, is_for_a_program(&matches))));
    let (cli, json) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return command_line_error(&hints::explained(error)),
    };
    let ui = Ui::new(cli.globals.color(), cli.globals.quiet, json);
    match start(providers, cli, ui) {
        Ok(exit) => exit,
        Err(error) => {
            if error.exit() != Exit::OutputClosed {
                ui.fail(&error);
            }
            error.exit()
        }
    }
}

/// Whether the command has the option `--json`, and it was given.
fn is_for_a_program(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((_, matches)) => is_for_a_program(matches),
        None => matches!(matches.try_get_one::<bool>("json"), Ok(Some(true))),
    }
}

/// Help and version are no errors; 2 means changes, so a wrong command line is 1.
fn command_line_error(error: &clap::Error) -> Exit {
    let ui = Ui::new(anstream::ColorChoice::Auto, false, false);
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        ui.err(text);
        return Exit::Error;
    }
    ui.out(text).map_or_else(|error| error.exit(), |()| Exit::Success)
}

fn start(providers: &[ProviderFactory], cli: Cli, ui: Ui) -> Result<Exit, Error> {
    log(&cli.globals)?;
    if let Some(folder) = &cli.globals.chdir {
        std::env::set_current_dir(folder).map_err(Error::file("work in", folder))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::file("start the runtime of", "moorfast"))?;
    let session = Session { globals: cli.globals, ui, untrusted: false };
    let options = RunOptions { root: session.root(), data_dir: session.data_dir() };
    session::set_providers(providers.iter().map(|build| build(&options)).collect());
    let exit = runtime.block_on(cli.command.run(session));
    // Nothing that still runs in the background is worth waiting for.
    runtime.shutdown_background();
    exit
}

fn log(globals: &Globals) -> Result<(), Error> {
    let Some(directives) = &globals.log else { return Ok(()) };
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Error::usage(format!("--log: {error}"), "a level such as info or debug, or moorfast_ssh=trace")
    })?;
    let colors =
        globals.color() != anstream::ColorChoice::Never && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let filter = filter.and(filter_fn(|line| may_show(line.target(), *line.level())));
    tracing_subscriber::registry().with(lines.with_ansi(colors).with_filter(filter)).init();
    Ok(())
}

/// The client of the API logs answers that it cannot read, and one of them may be a Secret.
fn may_show(target: &str, level: Level) -> bool {
    level == Level::ERROR || !target.starts_with("kube_client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_no_answers_of_the_api() {
        assert!(!may_show("kube_client::client", Level::WARN) && !may_show("kube_client", Level::TRACE));
        assert!(may_show("kube_client::client", Level::ERROR) && may_show("moorfast_kubernetes", Level::TRACE));
    }
}

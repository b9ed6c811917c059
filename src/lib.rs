//! The `moorfast` binary, as a library so that the fuzz targets can reach what reads files of others.

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
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tracing::Level;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::{Cli, Globals};
use crate::error::Error;
use crate::exit::Exit;
use crate::session::Session;
use crate::ui::Ui;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run(argv::normalise(&Cli::command(), std::env::args_os())).into()
}

fn run(arguments: Vec<OsString>) -> Exit {
    let parsed = Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, is_for_a_program(&matches))));
    let (cli, json) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return command_line_error(&hints::explained(error)),
    };
    let ui = Ui::new(cli.globals.color(), cli.globals.quiet, json);
    match start(cli, ui) {
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

fn start(cli: Cli, ui: Ui) -> Result<Exit, Error> {
    log(&cli.globals)?;
    if let Some(folder) = &cli.globals.chdir {
        std::env::set_current_dir(folder).map_err(Error::file("work in", folder))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::file("start the runtime of", "moorfast"))?;
    let exit = runtime.block_on(cli.command.run(Session { globals: cli.globals, ui, untrusted: false }));
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

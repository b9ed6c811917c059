//! The command line of moorfast, as a library: a binary is a list of providers and a call of [`run`].
//!
//! ```no_run
//! let exit_code: std::process::ExitCode = moorfast::run(&[moorfast::ssh, moorfast::kubernetes]);
//! ```
//!
//! `docs/writing-a-provider.md` explains how to add a provider of one's own; `examples/provider` is such a binary.

mod approval;
mod atomic;
mod backend;
mod cli;
mod commands;
mod completer;
mod completion;
mod drift_history;
mod environment;
mod error;
mod error_codes;
mod exit;
#[cfg(fuzzing)]
pub mod fuzzing;
mod generated;
mod globals;
mod hints;
mod inputs;
mod invocation;
mod modules;
mod plan_file;
mod planning;
mod render;
mod signals;
mod signature;
mod single_dash_options;
mod ui;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use moorfast_engine::provider::Provider;
use tracing::{Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::Cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::globals::Globals;
use crate::invocation::Invocation;
use crate::render::printable;
use crate::ui::Ui;

/// A function that builds a provider for one run.
pub type ProviderFactory = fn(&RunOptions) -> Arc<dyn Provider>;

/// The options of a run that a provider may need before it is configured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The folder of the manifest.
    pub root: PathBuf,
    /// The folder where moorfast keeps its own files, shared by all environments: `.moorfast` beside the manifest, unless `--state` names another.
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

/// Builds the provider `local`: data from the machine where moorfast runs.
pub fn local(_: &RunOptions) -> Arc<dyn Provider> {
    Arc::new(moorfast_local::LocalProvider)
}

/// Builds the provider `pki`: certificate authorities, keys and certificates.
pub fn pki(_: &RunOptions) -> Arc<dyn Provider> {
    Arc::new(moorfast_pki::PkiProvider)
}

/// Builds the provider `etcd`: the members of an etcd cluster, and snapshots of it.
pub fn etcd(_: &RunOptions) -> Arc<dyn Provider> {
    Arc::new(moorfast_etcd::EtcdProvider)
}

/// Runs the command line of this process with these providers.
///
/// Manifests, the JSON Schema, the reference pages and `moorfast version` know exactly these providers. Call it once in a process.
pub fn run(providers: &[ProviderFactory]) -> ExitCode {
    if let Some(shell) = completion::shell() {
        completion::answer(shell, providers, std::env::args_os());
        return ExitCode::SUCCESS;
    }
    run_command_line(providers, single_dash_options::normalise(&Cli::command(), std::env::args_os())).into()
}

fn run_command_line(providers: &[ProviderFactory], arguments: Vec<OsString>) -> Exit {
    let wants_json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    let parsed = Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, has_json_option(&matches))));
    let (cli, json) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return command_line_error(&hints::with_hint(error), wants_json),
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

/// Returns whether the command has the option `--json` and it is set.
fn has_json_option(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((_, matches)) => has_json_option(matches),
        None => matches!(matches.try_get_one::<bool>("json"), Ok(Some(true))),
    }
}

/// Prints help, the version or an error of the command line. The exit code of an error is 1, because 2 means changes.
fn command_line_error(error: &clap::Error, json: bool) -> Exit {
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let (summary, help) = text.split_once('\n').unwrap_or((&text, ""));
        let error = Error::usage(summary.trim_start_matches("error: "), help.trim());
        Ui::new(anstream::ColorChoice::Auto, false, json).fail(&error);
        return Exit::Error;
    }
    match Ui::new(anstream::ColorChoice::Auto, false, false).command_line(error) {
        Ok(()) if error.use_stderr() => Exit::Error,
        Ok(()) => Exit::Success,
        Err(error) => error.exit(),
    }
}

fn start(providers: &[ProviderFactory], cli: Cli, ui: Ui) -> Result<Exit, Error> {
    log(&cli.globals)?;
    if let Some(folder) = &cli.globals.chdir {
        std::env::set_current_dir(folder).map_err(Error::file("change to the folder", folder))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::file("start the threads of", "moorfast"))?;
    let invocation = Invocation::new(cli.globals, ui).with_providers(providers);
    let exit = runtime.block_on(cli.command.run(invocation, Cli::command()));
    // Background tasks have nothing left to save.
    runtime.shutdown_background();
    exit
}

fn log(globals: &Globals) -> Result<(), Error> {
    let Some(directives) = &globals.log else { return Ok(()) };
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Error::usage(
            format!("invalid value for --log: {error}"),
            "use a level such as `debug`, or a module and its level such as `moorfast_ssh=trace`",
        )
    })?;
    let colors =
        globals.color() != anstream::ColorChoice::Never && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let filter = filter.and(filter_fn(|line| may_show(line.target(), *line.level())));
    tracing_subscriber::registry().with(log_lines(std::io::stderr, colors).with_filter(filter)).init();
    Ok(())
}

/// Returns the layer that writes log lines. An event is always one line, whatever text of a node or a server it contains.
fn log_lines<S, W>(writer: W, colors: bool) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    let fields = debug_fn(|writer, field, value| {
        let value = printable(&format!("{value:?}")).replace('\n', "\\n");
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    });
    let lines = tracing_subscriber::fmt::layer().fmt_fields(fields.delimited(" "));
    lines.with_writer(writer).with_ansi(colors).log_internal_errors(false)
}

/// Returns whether a log line may be shown. The Kubernetes client logs responses that it cannot parse, which may contain a Secret.
fn may_show(target: &str, level: Level) -> bool {
    level == Level::ERROR || !target.starts_with("kube_client")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A writer into a shared buffer.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_of_a_node_cannot_forge_a_log_line() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry().with(log_lines(move || writer.clone(), false));
        let forged = "ok\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[31mred\u{202e}";
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("node", name = %forged).entered();
            tracing::info!(output = %forged, quoted = forged, "the node said {forged}");
        });
        let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        let escaped = r"ok\n2026-01-01T00:00:00Z ERROR forged\u{d}\u{1b}[31mred\u{202e}";
        assert!(log.contains(&format!("the node said {escaped} output={escaped}")), "{log}");
        assert!(!log.contains(['\r', '\u{1b}', '\u{202e}']), "{log}");
    }

    #[test]
    fn the_log_has_no_api_responses() {
        assert!(!may_show("kube_client::client", Level::WARN) && !may_show("kube_client", Level::TRACE));
        assert!(may_show("kube_client::client", Level::ERROR) && may_show("moorfast_kubernetes", Level::TRACE));
    }
}

//! The names that the completion of the command line offers. Options declare which kind of name they take; `completion` finds the names.

use std::ffi::OsStr;
use std::sync::OnceLock;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

/// The environment variable with which a script asks for candidates. Its value is the name of the shell.
pub const VARIABLE: &str = "MOORFAST_COMPLETE";

/// A kind of names that can be completed.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// The addresses of the manifest.
    Addresses,
    /// The names of the nodes.
    Nodes,
    /// The names of the outputs.
    Outputs,
    /// The names of the environments.
    Environments,
    /// Everything that `moorfast explain` explains.
    Explained,
}

/// Returns the names of a kind. Those that do not begin with the typed text are ignored.
pub type Source = Box<dyn Fn(Names, &str) -> Vec<String> + Send + Sync>;

/// The source of names. The functions of clap that complete a value get nothing but the typed text.
static SOURCE: OnceLock<Source> = OnceLock::new();

/// Sets the source of names for this process, which completes one command line.
pub fn complete_from(source: Source) {
    _ = SOURCE.set(source);
}

/// Completes a name.
pub fn completer(names: Names) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| matching(names, typed))
}

/// Returns the names that begin with the typed text.
fn matching(names: Names, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().replace('\\', "");
    let typed = typed.trim_start_matches(['\'', '"']);
    let names = SOURCE.get().map(|source| source(names, typed)).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
}

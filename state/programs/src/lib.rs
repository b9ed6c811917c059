//! Programs of this machine that moorfast starts: their environment, the limits of their time and output, and the end of everything that they started.

#![warn(missing_docs)]

mod processes;
mod run;

use tokio::process::Command;

pub use run::{Kept, Limits, Output, RunError, run};

/// The prefix of the environment variables with values of the manifest's variables, some of them secret.
const VARIABLE_PREFIX: &str = "MOORFAST_VAR_";

/// Returns a program with the environment of this process except the values of the manifest's variables: other processes can read an environment,
/// and child processes inherit it.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
        command.env_remove(name);
    }
    command
}

//! The programs of this machine that a transport starts.

use tokio::process::Command;

/// How the variables of the environment begin that hold values of the manifest's variables, some of them secret.
const VARIABLES: &str = "MOORFAST_VAR_";

/// A program that gets the environment of this process, but for the values of the manifest's variables: others see the environment of a process, too,
/// and it lives on in what that process starts.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with(VARIABLES)) {
        command.env_remove(name);
    }
    command
}

//! `moorfast completions`

use clap_complete::Shell;
use clap_complete::env::Shells;

use crate::completer::VARIABLE;
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// Print a completion script for a shell.
///
/// Prints a completion script for a shell, which asks moorfast for commands, options, and the addresses, nodes and outputs of the manifest. Options
/// are completed with two dashes and with one. Load it when the
/// shell starts, so that it fits the installed version:
///
/// bash, in ~/.bashrc: source <(moorfast completions bash)
///
/// zsh, in ~/.zshrc after compinit: source <(moorfast completions zsh)
///
/// fish, in ~/.config/fish/config.fish: moorfast completions fish | source
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let mut script = Vec::new();
        if let Some(completer) = Shells::builtins().completer(&self.shell.to_string()) {
            let written = completer.write_registration(VARIABLE, "moorfast", "moorfast", "moorfast", &mut script);
            written.map_err(Error::file("write", "the script"))?;
        }
        invocation.ui.data(String::from_utf8_lossy(&script))?;
        Ok(Exit::Success)
    }
}

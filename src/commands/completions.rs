//! `moorfast completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// Print a completion script for a shell.
///
/// Prints a completion script for a shell, for example `moorfast completions bash > /etc/bash_completion.d/moorfast`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "moorfast", &mut script);
        invocation.ui.data(String::from_utf8_lossy(&script))?;
        Ok(Exit::Success)
    }
}

//! `moorfast node`

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::session::Session;

/// The nodes of the inventory and their host keys.
#[derive(Debug, clap::Args)]
pub struct Node {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the nodes, how they are reached and whether their host keys are known
    List {
        #[command(flatten)]
        inputs: Inputs,
    },
}

impl Node {
    pub(super) fn run(self, _session: &Session) -> Result<Exit, Error> {
        match self.command {
            Command::List { inputs: _ } => Ok(Exit::Success),
        }
    }
}

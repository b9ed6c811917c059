//! One file per command; this one registers them.

mod apply;
mod completions;
mod console;
mod destroy;
mod docs;
mod drift;
mod fmt;
mod graph;
mod import;
mod init;
mod node;
mod output;
mod plan;
mod schema;
mod show;
mod state;
mod validate;
mod version;

use crate::error::Error;
use crate::exit::Exit;
use crate::session::Session;

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a starter manifest into the folder
    Init(init::Init),
    /// Check the manifest without looking at the state or the world
    Validate(validate::Validate),
    /// Format manifests
    Fmt(fmt::Fmt),
    /// Show what an apply would change and why
    Plan(plan::Plan),
    /// Bring the world to the manifest
    Apply(apply::Apply),
    /// Remove everything that the state holds
    Destroy(destroy::Destroy),
    /// Say whether the world still is as the last apply left it
    Drift(drift::Drift),
    /// Show the state, or a saved plan
    Show(show::Show),
    /// Look at and change what is remembered
    State(state::State),
    /// Take over an object that is there already
    Import(import::Import),
    /// Print the dependency graph
    Graph(graph::Graph),
    /// Print outputs of the last apply
    Output(output::Output),
    /// Evaluate expressions
    Console(console::Console),
    /// The nodes of the inventory and their host keys
    Node(node::Node),
    /// Print the JSON Schema of the manifest, for editors
    Schema(schema::Schema),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the version
    Version(version::Version),
    /// Write the reference pages
    #[command(hide = true)]
    Docs(docs::Docs),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub async fn run(self, session: Session) -> Result<Exit, Error> {
        match self {
            Command::Init(command) => command.run(&session),
            Command::Validate(command) => command.run(&session),
            Command::Fmt(command) => command.run(&session),
            Command::Plan(command) => command.run(&session).await,
            Command::Apply(command) => command.run(&session).await,
            Command::Destroy(command) => command.run(&session).await,
            Command::Drift(command) => command.run(&session).await,
            Command::Show(command) => command.run(&session).await,
            Command::State(command) => command.run(&session).await,
            Command::Import(command) => command.run(&session).await,
            Command::Graph(command) => command.run(&session),
            Command::Output(command) => command.run(&session).await,
            Command::Console(command) => command.run(&session).await,
            Command::Node(command) => command.run(&session).await,
            Command::Schema(command) => command.run(&session),
            Command::Completions(command) => command.run(&session),
            Command::Version(command) => command.run(&session),
            Command::Docs(command) => command.run(&session),
        }
    }
}

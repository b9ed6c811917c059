//! One file per command; this one registers them.

mod apply;
mod completions;
mod console;
mod destroy;
mod docs;
mod drift;
mod env;
mod explain;
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

pub use explain::explained_names;

use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// The commands. The help text of each is the documentation of its type.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Init(init::Init),
    Validate(validate::Validate),
    Fmt(fmt::Fmt),
    Plan(plan::Plan),
    Apply(apply::Apply),
    Destroy(destroy::Destroy),
    Drift(drift::Drift),
    Show(show::Show),
    State(state::State),
    Import(import::Import),
    Graph(graph::Graph),
    Output(output::Output),
    Explain(explain::Explain),
    Console(console::Console),
    Node(node::Node),
    Env(env::Env),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Version(version::Version),
    #[command(hide = true)]
    Docs(docs::Docs),
}

impl Command {
    /// Runs the command. `command_line` describes all commands.
    ///
    /// # Errors
    /// If the command fails.
    pub async fn run(self, invocation: Invocation, command_line: clap::Command) -> Result<Exit, Error> {
        match self {
            Command::Init(command) => command.run(&invocation).await,
            Command::Validate(command) => command.run(&invocation),
            Command::Fmt(command) => command.run(&invocation),
            Command::Plan(command) => command.run(&invocation).await,
            Command::Apply(command) => command.run(&invocation).await,
            Command::Destroy(command) => command.run(&invocation).await,
            Command::Drift(command) => command.run(&invocation).await,
            Command::Show(command) => command.run(&invocation).await,
            Command::State(command) => command.run(&invocation).await,
            Command::Import(command) => command.run(&invocation).await,
            Command::Graph(command) => command.run(&invocation).await,
            Command::Output(command) => command.run(&invocation).await,
            Command::Explain(command) => command.run(&invocation),
            Command::Console(command) => command.run(&invocation).await,
            Command::Node(command) => command.run(&invocation).await,
            Command::Env(command) => command.run(&invocation),
            Command::Schema(command) => command.run(&invocation),
            Command::Completions(command) => command.run(&invocation),
            Command::Version(command) => command.run(&invocation),
            Command::Docs(command) => command.run(&invocation, command_line),
        }
    }
}

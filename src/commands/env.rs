//! `moorfast env`

use serde_json::json;

use crate::environment::{self, Placed};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::text::{Line, Style, Text, styled};

/// List the environments of the manifest.
///
/// Lists the environments of the manifest. `--env NAME` or MOORFAST_ENV chooses one of them for a command.
#[derive(Debug, clap::Args)]
pub struct Env {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the environments, which one is chosen, and the place of each state
    List {
        /// Print the environments as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        inputs: Inputs,
    },
}

impl Env {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let Command::List { json, inputs } = self.command;
        let manifest = invocation.any_manifest()?;
        let environments = environment::all(&manifest, &inputs, &invocation.data_dir());
        if json {
            let list: Vec<_> = environments.iter().map(as_json).collect();
            invocation.ui.json(format!("{:#}\n", json!({ "environments": list })))?;
            return Ok(Exit::Success);
        }
        if environments.is_empty() {
            invocation.ui.note("The manifest has no environments.\n");
        }
        invocation.ui.out(table(&environments))?;
        Ok(Exit::Success)
    }
}

fn as_json(environment: &Placed) -> serde_json::Value {
    json!({
        "name": environment.name,
        "chosen": environment.is_chosen,
        "state": environment.place.as_ref().ok(),
        "error": environment.place.as_ref().err(),
    })
}

/// Returns one line for each environment. The chosen one has a star, as the current branch in the list of git.
fn table(environments: &[Placed]) -> Text {
    let width = environments.iter().map(|environment| environment.name.as_str().len()).max().unwrap_or(0);
    let line = |environment: &Placed| {
        let mark = if environment.is_chosen { "* " } else { "  " };
        let gap = " ".repeat(width - environment.name.as_str().len() + 2);
        let place = match &environment.place {
            Ok(place) => Line::from(place.as_str()),
            Err(reason) => styled(Style::Warning, format!("unknown place: {reason}")),
        };
        Line::from(mark) + styled(Style::Bold, &environment.name) + gap + place
    };
    environments.iter().map(line).collect()
}

//! `moorfast import`

use std::time::Duration;

use moorfast_engine::model::Pattern;

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::planning::{Run, parse_duration};
use crate::render::progress::ProgressFormat;

const EXAMPLES: &str = r#"Examples:
  moorfast import ssh_file.motd            record all existing objects of a resource
  moorfast import 'ssh_file.motd["gpu01"]'  record one"#;

/// Import an existing object.
///
/// Reads the existing object of an address of the manifest and records it in the state. Does not change the object.
/// Objects that match the manifest exactly need no import: an apply records them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Import {
    /// The address of an instance; a resource without a key selects all of its instances that are not in the state
    #[arg(add = completer(Names::Addresses))]
    address: Pattern,
    /// Maximum time to wait for the state lock
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    lock_timeout: Duration,
    #[command(flatten)]
    inputs: Inputs,
}

impl Import {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let workspace = invocation.checked_workspace(&self.inputs)?;
        let store = invocation.store().await?;
        let run = Run::new(invocation, &workspace, ProgressFormat::Text);
        let lock = run.lock(&store, "import", self.lock_timeout).await?;
        let (snapshot, key, events) = (store.snapshot().await?, store.seal_key(), run.progress.events());
        let imported = workspace.import(&self.address, &snapshot, key, &lock, &events, &run.interrupt).await;
        run.progress.flush().await;
        let imported = imported.map_err(|failure| run.error(failure))?;
        lock.release().await?;
        let lines: String = imported.iter().map(|address| format!("Imported {address}.\n")).collect();
        invocation.ui.out(format!("{lines}Run `moorfast plan` to see how the objects differ from the manifest.\n"))?;
        Ok(Exit::Success)
    }
}

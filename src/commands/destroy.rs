//! `moorfast destroy`

use moorfast_engine::plan::PlanMode;

use super::apply::{Applying, plan_and_apply};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::planning::{DeadNodes, Selection};

const EXAMPLES: &str = r#"Examples:
  moorfast destroy                         show what would be destroyed, ask, and destroy it
  moorfast destroy --target ssh_file.motd  destroy one resource and its dependants"#;

/// Destroy all objects in the state.
///
/// Destroys all objects in the state, dependants first. This is the same as `moorfast apply --destroy`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Destroy {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    dead: DeadNodes,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    applying: Applying,
}

impl Destroy {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let options = self.dead.add_to(self.selection.options(PlanMode::Destroy));
        plan_and_apply(invocation, &options, &self.inputs, &self.applying).await
    }
}

//! `moorfast destroy`

use moorfast_engine::plan::PlanMode;

use super::apply::{Applying, plan_and_apply};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::planning::Scope;
use crate::session::Session;

/// Remove everything that the state holds.
///
/// Removes everything that the state holds, dependants first. The same as `moorfast apply --destroy`.
#[derive(Debug, clap::Args)]
pub struct Destroy {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    applying: Applying,
}

impl Destroy {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        plan_and_apply(session, &self.scope.options(PlanMode::Destroy), &self.inputs, &self.applying).await
    }
}

//! `moorfast drift`

use moorfast_engine::Failure;
use moorfast_engine::plan::PlanMode;

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::planning::{Run, Scope};
use crate::render::progress::Form;
use crate::render::{drift, failure, json};
use crate::session::Session;

/// Say whether the world still is as the last apply left it.
///
/// Says whether the world still is as the last apply left it. Made for cron: exits with 0 in sync, 2 drifted, 5 where a node or the
/// cluster does not answer, 1 for any other error.
#[derive(Debug, clap::Args)]
pub struct Drift {
    /// Print the drift as JSON, in the form of `plan --json`
    #[arg(long)]
    json: bool,
    /// Show long texts whole
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    inputs: Inputs,
}

impl Drift {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        match self.look(session).await {
            Err(error) if error.is_unreachable() => {
                session.ui.err(failure::error(&error, session.ui.error_width()));
                Ok(Exit::Unreachable)
            }
            result => result,
        }
    }

    async fn look(&self, session: &Session) -> Result<Exit, Error> {
        let workspace = session.checked_workspace(&self.inputs)?;
        let store = session.store().await?;
        let run = Run::new(session, &workspace, Form::Text);
        let options = self.scope.options(PlanMode::RefreshOnly);
        let planned = run.look(&store, &store.snapshot().await?, &options).await?;
        let (plan, unread) = (planned.plan.clone(), planned.unread.clone());
        planned.close().await;
        if self.json {
            session.ui.out(format!("{:#}\n", json::plan(&plan)))?;
        } else {
            session.ui.out(drift::drift(&plan, unread.len(), session.ui.room(self.full)))?;
        }
        if !unread.is_empty() {
            // What could not be looked at says nothing of the rest, and the rest nothing of it.
            return Err(run.error(Failure::Providers(unread)));
        }
        Ok(if plan.drift.is_empty() && plan.nodes.is_empty() { Exit::Success } else { Exit::Changes })
    }
}

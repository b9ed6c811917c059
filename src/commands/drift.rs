//! `moorfast drift`

use std::path::PathBuf;

use jiff::Timestamp;
use moorfast_engine::Failure;
use moorfast_engine::plan::PlanMode;

use crate::atomic;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::known_drift::KnownDrift;
use crate::planning::{Run, Scope};
use crate::render::drift::Unsaid;
use crate::render::metrics::Found;
use crate::render::progress::Form;
use crate::render::{drift, failure, json, markdown, metrics};
use crate::session::Session;

/// Say whether the world still is as the last apply left it.
///
/// Says whether the world still is as the last apply left it. Made for cron: exits with 0 in sync, 2 drifted, 5 where a node or the
/// cluster does not answer, 1 for any other error.
#[derive(Debug, clap::Args)]
pub struct Drift {
    /// Print the drift as JSON, in the form of `plan --json`
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the drift as Markdown, for an issue or a chat
    #[arg(long)]
    markdown: bool,
    /// Tell only what the last `drift --since-last` did not: nothing new exits with 0
    #[arg(long, conflicts_with_all = ["target", "exclude"])]
    since_last: bool,
    /// Write metrics for the textfile collector of Prometheus' node_exporter, however the run ends
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Show long texts whole
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    inputs: Inputs,
}

/// What a look at the world came to.
struct Look {
    exit: Exit,
    metrics: String,
    error: Option<Error>,
}

impl Drift {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        let look = match self.look(session).await {
            Ok(look) => look,
            Err(error) => {
                let exit = if error.is_unreachable() { Exit::Unreachable } else { error.exit() };
                let found = Found { plan: None, unread: 0, new: None };
                Look { exit, metrics: render(session, &found, exit), error: Some(error) }
            }
        };
        if let Some(path) = &self.metrics {
            // Whoever scrapes it is another user; it holds addresses and counts.
            atomic::write(path, 0o644, look.metrics.as_bytes()).map_err(Error::file("write", path))?;
        }
        match look.error {
            Some(error) if look.exit == Exit::Unreachable => {
                session.ui.err(failure::error(&error, session.ui.error_width()));
                Ok(Exit::Unreachable)
            }
            Some(error) => Err(error),
            None => Ok(look.exit),
        }
    }

    async fn look(&self, session: &Session) -> Result<Look, Error> {
        let workspace = session.checked_workspace(&self.inputs)?;
        let store = session.store().await?;
        let run = Run::new(session, &workspace, Form::Text);
        let options = self.scope.options(PlanMode::RefreshOnly);
        let planned = run.look(&store, &store.snapshot().await?, &options).await?;
        let (plan, unread) = (planned.plan.clone(), planned.unread.clone());
        planned.close().await;
        let known = if self.since_last { KnownDrift::read(&session.data_dir())? } else { KnownDrift::default() };
        let news = known.news(&plan);
        let count = |plan: &moorfast_engine::plan::Plan| plan.drift.len() + plan.nodes.len();
        let unsaid = Unsaid { unread: unread.len(), known: count(&plan) - count(&news) };
        session.ui.out(match self {
            Drift { json: true, .. } => format!("{:#}\n", json::plan(&news)),
            Drift { markdown: true, .. } => markdown::drift(&news, unsaid, markdown::GITHUB),
            _ => drift::drift(&news, unsaid, session.ui.room(self.full)),
        })?;
        if self.since_last {
            // Only what was told is known.
            known.after(&plan, unread.iter().map(|(address, _)| address)).write(&session.data_dir())?;
        }
        let found = Found { plan: Some(&plan), unread: unread.len(), new: self.since_last.then_some(news.drift.len()) };
        // What could not be looked at says nothing of the rest, and the rest nothing of it.
        let unread = (!unread.is_empty()).then(|| run.error(Failure::Providers(unread)));
        let exit = match &unread {
            Some(error) if error.is_unreachable() => Exit::Unreachable,
            Some(error) => error.exit(),
            None if count(&news) == 0 => Exit::Success,
            None => Exit::Changes,
        };
        // The metrics tell what is, not what is new.
        let state = if exit == Exit::Success && count(&plan) > 0 { Exit::Changes } else { exit };
        Ok(Look { exit, metrics: render(session, &found, state), error: unread })
    }
}

/// The metrics carry the folder of the manifest, for a machine may watch over several.
fn render(session: &Session, found: &Found, exit: Exit) -> String {
    let root = session.root();
    let root = root.canonicalize().unwrap_or(root);
    metrics::drift(&root.display().to_string(), found, exit, Timestamp::now())
}

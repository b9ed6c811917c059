//! `moorfast drift`

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use moorfast_engine::model::{Address, Severity};
use moorfast_engine::plan::{Plan, PlanMode};
use moorfast_engine::provider::ProviderError;
use moorfast_engine::session::Failure;
use moorfast_engine::state::{Look, Posted};
use moorfast_engine::workspace::{Webhook, Workspace};

use crate::atomic;
use crate::drift_history::{Kept, Sightings};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::planning::{Run, Scope};
use crate::render::drift::Unsaid;
use crate::render::metrics::Found;
use crate::render::progress::Form;
use crate::render::webhook::{self, Told};
use crate::render::{diagnostic, drift, drift_history as history, json, markdown, metrics};
use crate::session::Session;

/// Say whether the world still is as the last apply left it.
///
/// Says whether the world still is as the last apply left it. Made for cron: exits with 0 in sync, 2 drifted, 5 where a node or the
/// cluster does not answer, 6 where another one answers in its place, 1 for any other error.
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
    /// Do not look, but show what earlier looks saw, and since when
    #[arg(long, conflicts_with_all = ["markdown", "since_last", "metrics", "webhook", "full", "target", "exclude"])]
    history: bool,
    /// Write metrics for the textfile collector of Prometheus' node_exporter, however the run ends
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Tell of drift, and of its end, the server that this TOML file names
    #[arg(long, value_name = "FILE")]
    webhook: Option<PathBuf>,
    /// Show long texts whole
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    inputs: Inputs,
}

/// What a look at the world came to.
struct Outcome {
    exit: Exit,
    metrics: String,
    error: Option<Error>,
}

impl Drift {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        if self.history {
            return self.show_history(session).await;
        }
        let outcome = match self.look(session).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let exit = error.exit_of_a_look();
                Outcome { exit, metrics: render(session, &Found::default(), exit), error: Some(error) }
            }
        };
        if let Some(path) = &self.metrics {
            // Whoever scrapes it is another user; it holds addresses and counts.
            atomic::write(path, 0o644, outcome.metrics.as_bytes()).map_err(Error::file("write", path))?;
        }
        match outcome.error {
            Some(error) if outcome.exit != error.exit() => {
                session.ui.fail(&error);
                Ok(outcome.exit)
            }
            Some(error) => Err(error),
            None => Ok(outcome.exit),
        }
    }

    async fn look(&self, session: &Session) -> Result<Outcome, Error> {
        let workspace = session.checked_workspace(&self.inputs)?;
        let webhook = self.webhook.as_ref().map(|path| read_webhook(path, &workspace)).transpose()?;
        let (store, folder) = (session.store_for_a_look().await?, session.data_dir());
        let snapshot = session.filled(&store).await?;
        let kept = Kept::read(&store, &folder).await;
        let run = Run::new(session, &workspace, Form::Text);
        let planned = run.look(&store, &snapshot, &self.scope.options(PlanMode::RefreshOnly)).await?;
        let (plan, unread) = (planned.plan.clone(), planned.unread.clone());
        planned.close().await;

        let seen = Sightings { plan: &plan, unread: &unread, snapshot: &snapshot, key: store.seal_key() };
        let look = seen.look(Timestamp::now());
        let (told, has_news) = if self.since_last { seen.news(&look, &kept.history) } else { (plan.clone(), true) };
        self.print(session, &told, &unread, Unsaid { unread: unread.len(), known: count(&plan) - count(&told) })?;

        let failed = (!unread.is_empty()).then(|| run.error(Failure::Providers(unread.clone())));
        let of_unread = failed.as_ref().map_or(Exit::Success, Error::exit_of_a_look);
        let exit = exit_of(&told).worse(of_unread);
        let recovered = seen.is_recovery(&look, &kept.history);
        let manifest = manifest(session);
        let message = Told { manifest: &manifest, plan: &told, unread: &unread, exit, recovered };
        let taken = match &webhook {
            Some(webhook) if recovered || (exit != Exit::Success && has_news) => {
                Some(post(session, &workspace, webhook, &message).await)
            }
            _ => None,
        };
        let lost = taken == Some(false);
        // What a webhook did not take is told again.
        let posted = if recovered { Posted::Recovery } else { Posted::Seen };
        let posted = (taken == Some(true)).then_some(posted);
        note(session, kept, Look { told: self.since_last && !lost, posted, ..look }).await;
        let found = Found {
            plan: Some(&plan),
            unread: unread.len(),
            new: self.since_last.then_some(told.drift.len()),
            webhook_failed: taken.map(|taken| !taken),
        };
        // The metrics tell what is, not what is new.
        let metrics = render(session, &found, exit_of(&plan).worse(of_unread));
        let exit = if lost && exit == Exit::Success { Exit::Error } else { exit };
        // The JSON has what could not be read.
        Ok(Outcome { exit, metrics, error: failed.filter(|_| !self.json) })
    }

    fn print(
        &self,
        session: &Session,
        told: &Plan,
        unread: &[(Address, ProviderError)],
        unsaid: Unsaid,
    ) -> Result<(), Error> {
        if self.json {
            let mut object = json::plan(told);
            object["unread"] = json::unread(unread);
            return session.ui.json(format!("{object:#}\n"));
        }
        session.ui.out(match self {
            Drift { markdown: true, .. } => markdown::drift(told, unsaid, markdown::GITHUB),
            _ => drift::drift(told, unsaid, session.ui.room(self.full)),
        })
    }

    async fn show_history(&self, session: &Session) -> Result<Exit, Error> {
        let kept = Kept::read(&session.state().await?, &session.data_dir()).await.history;
        match self.json {
            true => session.ui.json(format!("{:#}\n", history::json(&kept))),
            false => session.ui.out(history::text(&kept)),
        }?;
        Ok(Exit::Success)
    }
}

fn count(plan: &Plan) -> usize {
    plan.drift.len() + plan.mismatches()
}

fn exit_of(plan: &Plan) -> Exit {
    match (plan.mismatches(), plan.drift.len()) {
        (0, 0) => Exit::Success,
        (0, _) => Exit::Changes,
        _ => Exit::Identity,
    }
}

fn read_webhook(path: &Path, workspace: &Workspace) -> Result<Webhook, Error> {
    let wrong = |(sources, diagnostics)| Error::Manifest { sources, diagnostics };
    let webhook = Webhook::read(path, &workspace.manifest).map_err(wrong)?;
    match workspace.check_webhook(&webhook, &webhook::MEMBERS) {
        Ok(()) => Ok(webhook),
        Err(diagnostics) => Err(wrong((webhook.sources, diagnostics))),
    }
}

/// Tells the webhook, and says whether it took it. Where it did not, that is a warning: what was found is what matters.
async fn post(session: &Session, workspace: &Workspace, webhook: &Webhook, message: &Told<'_>) -> bool {
    let report = webhook::report(message);
    let body = webhook::discreet(&report).to_string();
    let Err(mut problems) = workspace.post(webhook, &report, &body).await else { return true };
    problems.iter_mut().for_each(|problem| problem.severity = Severity::Warning);
    session.ui.err(diagnostic::diagnostics(&webhook.sources, &problems, session.ui.error_width()));
    false
}

/// Notes the look, where that can be.
async fn note(session: &Session, kept: Kept<'_>, look: Look) {
    if let Err((refused, error)) = kept.note(&look).await {
        session
            .ui
            .note(format!("What was seen is not kept for the next look: {refused}; nor on this machine: {error}\n"));
    }
}

fn manifest(session: &Session) -> String {
    let root = session.root();
    root.canonicalize().unwrap_or(root).display().to_string()
}

/// The metrics carry the folder of the manifest, for a machine may watch over several.
fn render(session: &Session, found: &Found, exit: Exit) -> String {
    metrics::drift(&manifest(session), found, exit, Timestamp::now())
}

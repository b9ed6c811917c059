//! `moorfast drift`

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use moorfast_engine::model::{Address, Severity};
use moorfast_engine::plan::{Plan, PlanMode};
use moorfast_engine::provider::ProviderError;
use moorfast_engine::session::Failure;
use moorfast_engine::state::{Observation, Posted};
use moorfast_engine::workspace::{Webhook, Workspace};

use crate::atomic;
use crate::drift_history::{Sightings, StoredHistory};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::planning::{Run, Selection};
use crate::render::drift::Omitted;
use crate::render::metrics::{Found, Labels};
use crate::render::progress::ProgressFormat;
use crate::render::text::Text;
use crate::render::webhook::{self, DriftReport};
use crate::render::{diagnostic, drift, drift_history, json, markdown, metrics, site};

const EXAMPLES: &str = r#"Examples:
  moorfast drift                           report changes since the last apply
  moorfast drift --since-last              report only what is new since the last run, for cron
  moorfast drift --json                    print the report for a program
  moorfast drift --history                 show what earlier runs found"#;

/// Detect changes made outside moorfast since the last apply.
///
/// Detects changes made outside moorfast since the last apply. Suitable for cron. Exit codes: 0 in sync, 2 drift, 5 a node or
/// cluster does not answer, 6 another node or cluster answers in its place or a host key is not known yet, 1 any other error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Drift {
    /// Print the drift as JSON, in the format of `plan --json`
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the drift as Markdown, for an issue or a chat
    #[arg(long)]
    markdown: bool,
    /// Report only drift that the last `drift --since-last` did not report; exit with 0 if there is none
    #[arg(long, conflicts_with_all = ["target", "exclude"])]
    since_last: bool,
    /// Show the drift that earlier runs found, and since when, without reading any node or cluster
    #[arg(long, conflicts_with_all = ["markdown", "since_last", "metrics", "webhook", "full", "target", "exclude"])]
    history: bool,
    /// Write metrics for the textfile collector of Prometheus' node_exporter, even if the run fails
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Report drift, and its end, to the webhook that this TOML file configures
    #[arg(long, value_name = "FILE")]
    webhook: Option<PathBuf>,
    /// Show long texts in full
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    inputs: Inputs,
}

/// The result of a run of `drift`.
struct Detection {
    exit: Exit,
    metrics: String,
    error: Option<Error>,
}

impl Drift {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        if self.history {
            return self.show_history(invocation).await;
        }
        let detection = match self.detect(invocation).await {
            Ok(detection) => detection,
            Err(error) => {
                let exit = error.drift_exit();
                Detection { exit, metrics: render(invocation, &Found::default(), exit), error: Some(error) }
            }
        };
        if let Some(path) = &self.metrics {
            // The collector runs as another user. The file holds only addresses and counts.
            atomic::write(path, 0o644, detection.metrics.as_bytes()).map_err(Error::file("write", path))?;
        }
        match detection.error {
            Some(error) if detection.exit != error.exit() => {
                invocation.ui.fail(&error);
                Ok(detection.exit)
            }
            Some(error) => Err(error),
            None => Ok(detection.exit),
        }
    }

    async fn detect(&self, invocation: &Invocation) -> Result<Detection, Error> {
        let workspace = invocation.checked_workspace(&self.inputs)?;
        let webhook = self.webhook.as_ref().map(|path| read_webhook(path, &workspace)).transpose()?;
        let (store, folder) = (invocation.writable_or_readable_store().await?, invocation.state_dir());
        let snapshot = invocation.filled(&store).await?;
        let stored = StoredHistory::read(&store, &folder).await;
        let run = Run::new(invocation, &workspace, ProgressFormat::Text);
        let planned = run.plan_readable(&store, &snapshot, &self.selection.options(PlanMode::RefreshOnly)).await?;
        let unread = planned.unread.clone();
        let plan = planned.close().await;

        let seen = Sightings { plan: &plan, unread: &unread, snapshot: &snapshot, key: store.seal_key() };
        let observation = seen.observation(Timestamp::now());
        let (reported, has_news) =
            if self.since_last { seen.news(&observation, &stored.history) } else { (plan.clone(), true) };
        let omitted = Omitted { unread: unread.len(), known: count(&plan) - count(&reported) };
        self.print(invocation, &reported, &unread, omitted)?;

        let failed = (!unread.is_empty()).then(|| run.error(Failure::Providers(unread.clone())));
        let of_unread = failed.as_ref().map_or(Exit::Success, Error::drift_exit);
        let exit = exit_of(&reported).worse(of_unread);
        let recovered = seen.is_recovery(&observation, &stored.history);
        let manifest = manifest(invocation);
        let message = DriftReport { manifest: &manifest, plan: &reported, unread: &unread, exit, recovered };
        let delivered = match &webhook {
            Some(webhook) if recovered || (exit != Exit::Success && has_news) => {
                Some(post(invocation, &workspace, webhook, &message).await)
            }
            _ => None,
        };
        let lost = delivered == Some(false);
        // Drift that the webhook did not accept is reported again by the next run.
        let posted = if recovered { Posted::Recovery } else { Posted::Seen };
        let posted = (delivered == Some(true)).then_some(posted);
        store_history(invocation, stored, Observation { reported: self.since_last && !lost, posted, ..observation })
            .await;
        let found = Found {
            plan: Some(&plan),
            unread: unread.len(),
            new: self.since_last.then_some(reported.drift.len()),
            webhook_failed: delivered.map(|delivered| !delivered),
            providers: &invocation.providers,
        };
        // The metrics describe all drift, not only the new drift.
        let metrics = render(invocation, &found, exit_of(&plan).worse(of_unread));
        let exit = if lost && exit == Exit::Success { Exit::Error } else { exit };
        // The JSON document already lists the objects that could not be read.
        Ok(Detection { exit, metrics, error: failed.filter(|_| !self.json) })
    }

    fn print(
        &self,
        invocation: &Invocation,
        reported: &Plan,
        unread: &[(Address, ProviderError)],
        omitted: Omitted,
    ) -> Result<(), Error> {
        if self.json {
            let mut object = json::plan(reported);
            object["unread"] = json::unread(unread);
            return invocation.ui.json(format!("{object:#}\n"));
        }
        invocation.ui.out(match self {
            Drift { markdown: true, .. } => {
                markdown::drift(reported, omitted, markdown::GITHUB, invocation.derived_attributes()).into()
            }
            _ => drift::drift(reported, omitted, invocation.text_options(self.full)),
        })
    }

    async fn show_history(&self, invocation: &Invocation) -> Result<Exit, Error> {
        let history = StoredHistory::read(&invocation.state().await?, &invocation.state_dir()).await.history;
        match self.json {
            true => {
                let mut object = drift_history::json(&history);
                object["environment"] = serde_json::json!(invocation.globals.env);
                invocation.ui.json(format!("{object:#}\n"))
            }
            false => {
                let environment = site::environment(invocation.globals.env.as_ref());
                invocation.ui.out(Text::separated([environment, drift_history::text(&history)]))
            }
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

/// Posts the report to the webhook. Returns whether the webhook accepted it; if not, prints a warning.
async fn post(invocation: &Invocation, workspace: &Workspace, webhook: &Webhook, message: &DriftReport<'_>) -> bool {
    let report = webhook::report(message);
    let body = webhook::without_values(&report).to_string();
    let Err(mut problems) = workspace.post(webhook, &report, &body).await else { return true };
    problems.iter_mut().for_each(|problem| problem.severity = Severity::Warning);
    invocation.ui.err(diagnostic::diagnostics(&webhook.sources, &problems));
    false
}

/// Adds this run to the drift history.
async fn store_history(invocation: &Invocation, stored: StoredHistory<'_>, observation: Observation) {
    if let Err((refused, error)) = stored.add(&observation).await {
        invocation.ui.note(format!(
            "The drift history was not saved beside the state: {refused}; nor on this machine: {error}\n"
        ));
    }
}

fn manifest(invocation: &Invocation) -> String {
    let root = invocation.root();
    root.canonicalize().unwrap_or(root).display().to_string()
}

/// Returns the metrics. They carry the folder of the manifest and the environment, because one machine may check several.
fn render(invocation: &Invocation, found: &Found, exit: Exit) -> String {
    let manifest = manifest(invocation);
    let labels = Labels { manifest: &manifest, environment: invocation.globals.env.as_ref() };
    metrics::drift(labels, found, exit, Timestamp::now())
}

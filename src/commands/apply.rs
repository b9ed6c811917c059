//! `moorfast apply`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use moorfast_engine::apply::{ApplyOptions, ChangeOutcome, ChangeResult, Report};
use moorfast_engine::model::Diagnostic;
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::state::{Lock, Run as History, RunEnd, RunResult};
use moorfast_engine::workspace::Planned;

use crate::ask;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::plan_file;
use crate::planning::{Replacing, Run, Scope, parse_duration};
use crate::render::diagnostic::diagnostics;
use crate::render::failure;
use crate::render::progress::Form;
use crate::render::report::Done;
use crate::render::{json, plan, report, shown_json};
use crate::session::Session;
use crate::signature::TrustedKeys;

/// Bring the world to the manifest.
///
/// Brings the world to the manifest: plans, asks, and does what was planned. With a saved plan it does exactly that and asks nothing.
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// A plan that `moorfast plan --out FILE` saved
    #[arg(value_name = "FILE", conflicts_with_all = ["target", "exclude", "replace", "replace_node", "destroy", "refresh_only"])]
    file: Option<PathBuf>,
    /// Apply the saved plan only if it is signed by one of these keys: a file of OpenSSH public keys, or a folder of *.pub
    #[arg(long, value_name = "KEYS", requires = "file")]
    require_signature: Option<PathBuf>,
    /// Remove everything that the state holds
    #[arg(long, conflicts_with = "refresh_only")]
    destroy: bool,
    /// Only record what the world is like now
    #[arg(long)]
    refresh_only: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    applying: Applying,
}

/// How an apply or a destroy goes about it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How to apply")]
pub struct Applying {
    /// Do not ask
    #[arg(long)]
    pub auto_approve: bool,
    /// How many calls of providers may run at once; one call does everything that is ready on its node or cluster
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallelism: u16,
    /// How many of these calls may be for one node at once
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    pub per_node: u16,
    /// Print one JSON object a line for everything that happens
    #[arg(long)]
    pub json: bool,
    /// Show long texts whole
    #[arg(long)]
    pub full: bool,
    /// Wait this long for another run to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub lock_timeout: Duration,
    /// Ask nothing, and fail where something must be asked (`--input=false`, as Terraform spells it)
    #[arg(long, hide = true, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    pub input: bool,
}

impl Apply {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        match &self.file {
            Some(file) => self.saved(file.clone(), session).await,
            None => {
                let mode = match (self.destroy, self.refresh_only) {
                    (true, _) => PlanMode::Destroy,
                    (_, true) => PlanMode::RefreshOnly,
                    _ => PlanMode::Normal,
                };
                let options = self.replacing.of(self.scope.options(mode));
                plan_and_apply(session, &options, &self.inputs, &self.applying).await
            }
        }
    }

    async fn saved(&self, file: PathBuf, session: &Session) -> Result<Exit, Error> {
        let saved = plan_file::read(&file)?;
        if let Some(keys) = &self.require_signature {
            let signer = saved.verify(&TrustedKeys::read(keys)?)?;
            session.ui.note(format!("The plan is signed by {signer}.\n"));
        }
        let plan = saved.plan;
        if let Some(policy) = plan.policies.iter().find(|policy| policy.denies()) {
            return Err(Error::usage(
                format!("{} denied this plan when it was made; nothing was done", policy.name),
                "a denied plan is kept as evidence only: mend what the policy says, and plan again",
            ));
        }
        let workspace = session.checked_workspace(&self.inputs.clone().with_saved(&plan))?;
        let store = session.store().await?;
        let run = Run::new(session, &workspace, self.applying.form());
        let lock = run.lock(&store, "apply", self.applying.lock_timeout).await?;
        let (snapshot, events) = (store.snapshot().await?, run.follower.events());
        let resumed = workspace.resume(plan, &snapshot, store.seal_key(), &events, &run.interrupt).await;
        run.follower.settle().await;
        let planned = run.whole(resumed.map_err(|failure| run.error(failure))?).await?;
        // A window is about the time of the apply, so the policies look again.
        let (planned, said) = run.judged(planned, true).await?;
        if planned.plan.is_denied() {
            return denied(&run, planned, lock, &said, &self.applying).await;
        }
        apply(&run, planned, lock, &self.applying, true).await
    }
}

impl Applying {
    fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

/// Plans, asks and applies: what `apply` without a file and `destroy` do.
pub async fn plan_and_apply(
    session: &Session,
    options: &PlanOptions,
    inputs: &Inputs,
    applying: &Applying,
) -> Result<Exit, Error> {
    if applying.json && !applying.auto_approve {
        return Err(Error::usage("--json can't ask", "give --auto-approve, or a saved plan"));
    }
    let mode = options.mode;
    let workspace = session.checked_workspace(inputs)?;
    let store = session.store().await?;
    let run = Run::new(session, &workspace, applying.form());
    let operation = if mode == PlanMode::Destroy { "destroy" } else { "apply" };
    let lock = run.lock(&store, operation, applying.lock_timeout).await?;
    let planned = run.plan(&store, &store.snapshot().await?, options).await?;
    let (planned, said) = run.judged(planned, true).await?;
    if !applying.json {
        session.ui.out(plan::plan(&planned.plan, session.ui.room(applying.full)))?;
    }
    if planned.plan.is_denied() {
        return denied(&run, planned, lock, &said, applying).await;
    }
    if !applying.auto_approve && planned.plan.has_changes() && !approved(&run, applying, mode).await? {
        planned.close().await;
        release(lock, session).await;
        session.ui.err("Nothing was done.\n");
        return Ok(Exit::Error);
    }
    // Time passed while a person looked at the plan; without a person there is nothing to be true to.
    apply(&run, planned, lock, applying, !applying.auto_approve).await
}

/// Ends a run whose plan the policies deny.
async fn denied(
    run: &Run<'_>,
    planned: Planned,
    lock: Lock,
    said: &[Diagnostic],
    applying: &Applying,
) -> Result<Exit, Error> {
    planned.close().await;
    release(lock, run.session).await;
    if applying.json {
        run.session.ui.err(shown_json(&json::denied(&run.workspace.manifest.sources, said)));
        return Ok(Exit::Error);
    }
    run.tell_policies(said);
    run.session.ui.err("\nNothing was done.\n");
    Ok(Exit::Error)
}

async fn approved(run: &Run<'_>, applying: &Applying, mode: PlanMode) -> Result<bool, Error> {
    if !applying.input {
        return Err(Error::usage("there is nobody to ask", "give --auto-approve, or a saved plan"));
    }
    let (question, detail) = match mode {
        PlanMode::Destroy => ("Really destroy all of this?", "There is no way back."),
        PlanMode::RefreshOnly => ("Record this?", "moorfast will write to its state what the world is like now."),
        PlanMode::Normal => ("Do this?", "moorfast will do exactly what is described above."),
    };
    ask::approve(&run.session.ui, question, detail, &run.interrupt).await
}

async fn apply(run: &Run<'_>, planned: Planned, lock: Lock, applying: &Applying, verify: bool) -> Result<Exit, Error> {
    let mode = planned.plan.options.mode;
    let started = Instant::now();
    let history = History::new(match mode {
        PlanMode::Destroy => "destroy",
        PlanMode::RefreshOnly => "apply --refresh-only",
        PlanMode::Normal => "apply",
    });
    lock.start_run(history.clone()).await?;
    let options = ApplyOptions {
        run: history.id.clone(),
        parallelism: applying.parallelism.into(),
        per_target: applying.per_node.into(),
        verify,
    };
    let report = planned.apply(&lock, options, &run.follower.events(), &run.interrupt).await;
    run.follower.settle().await;
    if let Err(error) = lock.finish_run(&history.id, end(&report)).await {
        run.session.ui.warn(format!("the end of this run could not be recorded: {error}"));
    }
    release(lock, run.session).await;
    tell(run, &report, applying, mode, started.elapsed())?;
    Ok(exit(&report))
}

fn tell(run: &Run, report: &Report, applying: &Applying, mode: PlanMode, took: Duration) -> Result<(), Error> {
    let ui = &run.session.ui;
    let width = ui.error_width();
    if applying.json {
        return ui.json(json::report(report, &run.workspace.manifest.sources));
    }
    let failures = report::failures(report, Some(&run.workspace.manifest), width);
    if !failures.is_empty() {
        ui.err(format!("\n{failures}\n"));
    }
    if !report.errors.is_empty() {
        ui.err(diagnostics(&run.workspace.manifest.sources, &report.errors, width));
    }
    if let Some(error) = &report.state_error {
        ui.err(failure::state(error, width));
    }
    ui.out(format!("\n{}", report::closing(report, mode, took)))
}

/// A lock that can't be given back is free as soon as this process ended.
async fn release(lock: Lock, session: &Session) {
    if let Err(error) = lock.release().await {
        session.ui.warn(format!("the lock could not be given back: {error}"));
    }
}

/// How the run ended, for the history.
fn end(report: &Report) -> RunEnd {
    let done = Done::of(report);
    let ended = report::Ended::of(report);
    let left = report.outcomes.iter().filter(|o| matches!(o.result, ChangeResult::RolloutStopped { .. })).count();
    let counts = [
        ("added", done.added),
        ("changed", done.changed),
        ("destroyed", done.destroyed),
        ("adopted", done.adopted),
        ("forgotten", done.forgotten),
        ("failed", ended.failed.len()),
        ("cancelled", ended.cancelled.len()),
        ("skipped", ended.skipped.len()),
        ("not started", ended.not_started.len()),
        ("left", left),
    ];
    let result = match exit(report) {
        Exit::Success => RunResult::Succeeded,
        Exit::Interrupted => RunResult::Interrupted,
        _ => RunResult::Failed,
    };
    RunEnd { at: Timestamp::now(), result, counts: counts.map(|(what, n)| (what.to_owned(), n as u64)).into() }
}

fn exit(report: &Report) -> Exit {
    let failed = |o: &ChangeOutcome| matches!(o.result, ChangeResult::Failed(_) | ChangeResult::Unapproved(_));
    match report {
        _ if report.interrupted => Exit::Interrupted,
        _ if report::is_complete(report) => Exit::Success,
        _ if report.outcomes.iter().any(failed) || !report.gates.is_empty() => Exit::Error,
        _ if report.state_error.is_some() || !report.errors.is_empty() => Exit::Error,
        _ => Exit::StalePlan,
    }
}

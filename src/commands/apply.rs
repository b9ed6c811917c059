//! `moorfast apply`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use moorfast_engine::apply::{ApplyOptions, ChangeOutcome, ChangeResult, Report};
use moorfast_engine::model::Diagnostic;
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::state::{Lock, RunEnd, RunResult};
use moorfast_engine::workspace::Planned;

use crate::approval;
use crate::environment;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::plan_file;
use crate::planning::{Replacements, Run, Selection, parse_duration};
use crate::render::diagnostic::diagnostics;
use crate::render::failure;
use crate::render::progress::ProgressFormat;
use crate::render::report::Done;
use crate::render::text::Text;
use crate::render::unsuccessful::{self, Unsuccessful};
use crate::render::{escape_json, json, plan, report};
use crate::signature::TrustedKeys;

const EXAMPLES: &str = r#"Examples:
  moorfast apply                           plan, ask, and apply
  moorfast apply plan.moorfast             apply a reviewed plan, and nothing else
  moorfast apply --auto-approve            apply without a question
  moorfast apply --refresh-only            accept what was changed outside moorfast
  moorfast apply --replace-node gpu01      set up the machine that replaces a node"#;

/// Apply the manifest.
///
/// Plans, asks for approval and applies the plan. A saved plan is applied exactly as it is, without a question.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Apply {
    /// A saved plan, written by `moorfast plan --out FILE`
    #[arg(value_name = "FILE", conflicts_with_all = ["target", "exclude", "replace", "replace_node", "dead_node", "destroy", "refresh_only"])]
    file: Option<PathBuf>,
    /// Apply the saved plan only if one of these keys signed it: a file of OpenSSH public keys, or a folder of *.pub files
    #[arg(long, value_name = "KEYS", requires = "file")]
    require_signature: Option<PathBuf>,
    /// Destroy all objects in the state
    #[arg(long, conflicts_with = "refresh_only")]
    destroy: bool,
    /// Update the state to match the real objects, and change no object
    #[arg(long)]
    refresh_only: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    replacements: Replacements,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    applying: Applying,
}

/// The options of an apply or a destroy.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Apply options")]
pub struct Applying {
    /// Apply without asking for approval
    #[arg(long)]
    pub auto_approve: bool,
    /// Maximum number of concurrent provider calls; one call runs all operations that are ready on its node or cluster
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallelism: u16,
    /// Maximum number of concurrent provider calls to one node
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    pub per_node: u16,
    /// Print events as JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Show long texts in full
    #[arg(long)]
    pub full: bool,
    /// Maximum time to wait for the state lock
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub lock_timeout: Duration,
    /// Whether to ask for approval; `--input=false` fails instead (Terraform's spelling)
    #[arg(long, hide = true, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    pub input: bool,
}

impl Apply {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        match &self.file {
            Some(file) => self.saved(file.clone(), invocation).await,
            None => {
                let mode = match (self.destroy, self.refresh_only) {
                    (true, _) => PlanMode::Destroy,
                    (_, true) => PlanMode::RefreshOnly,
                    _ => PlanMode::Normal,
                };
                let options = self.replacements.add_to(self.selection.options(mode));
                plan_and_apply(invocation, &options, &self.inputs, &self.applying).await
            }
        }
    }

    async fn saved(&self, file: PathBuf, invocation: &Invocation) -> Result<Exit, Error> {
        let saved = plan_file::read(&file)?;
        if let Some(keys) = &self.require_signature {
            let signer = saved.verify(&TrustedKeys::read(keys)?)?;
            invocation.ui.note(format!("The plan is signed by {signer}.\n"));
        }
        let plan = saved.plan;
        // The plan names its environment, so it need not be chosen again.
        let chosen = invocation.globals.env.clone().or(plan.environment.clone());
        environment::check_plan(&plan, chosen.as_ref())?;
        let invocation = &invocation.in_environment(chosen);
        if let Some(policy) = plan.policies.iter().find(|policy| policy.denies()) {
            return Err(Error::usage(
                format!("cannot apply this plan: the policy `{}` denied it when it was created", policy.name),
                "fix what the policy reports, and plan again; a denied plan is saved only for review",
            ));
        }
        let workspace = invocation.checked_workspace(&self.inputs.clone().with_saved(&plan))?;
        let store = invocation.store().await?;
        let run = Run::new(invocation, &workspace, self.applying.format());
        let lock = run.lock(&store, "apply", self.applying.lock_timeout).await?;
        let (snapshot, events) = (store.snapshot().await?, run.progress.events());
        let resumed = workspace.resume(plan, &snapshot, store.seal_key(), &events, &run.interrupt).await;
        run.progress.flush().await;
        let planned = run.complete(resumed.map_err(|failure| run.error(failure))?).await?;
        // A maintenance window depends on the time of the apply, so the policies are evaluated again.
        let (planned, messages) = run.with_policies(planned, true).await?;
        if planned.plan().is_denied() {
            return denied(&run, planned, lock, &messages, &self.applying).await;
        }
        // The objects were just read and compared with the reviewed plan.
        apply(&run, planned, lock, &self.applying, false).await
    }
}

impl Applying {
    fn format(&self) -> ProgressFormat {
        if self.json { ProgressFormat::Json } else { ProgressFormat::Text }
    }
}

/// Plans, asks for approval and applies, for `apply` without a file and for `destroy`.
pub async fn plan_and_apply(
    invocation: &Invocation,
    options: &PlanOptions,
    inputs: &Inputs,
    applying: &Applying,
) -> Result<Exit, Error> {
    if applying.json && !applying.auto_approve {
        return Err(Error::usage("cannot ask for approval with --json", "add --auto-approve, or apply a saved plan"));
    }
    let mode = options.mode;
    let workspace = invocation.checked_workspace(inputs)?;
    let store = invocation.store().await?;
    let run = Run::new(invocation, &workspace, applying.format());
    let operation = if mode == PlanMode::Destroy { "destroy" } else { "apply" };
    let lock = run.lock(&store, operation, applying.lock_timeout).await?;
    let planned = run.plan(&store, &store.snapshot().await?, options).await?;
    let (planned, messages) = run.with_policies(planned, true).await?;
    if !applying.json {
        invocation.ui.out(plan::before_apply(planned.plan(), invocation.text_options(applying.full)))?;
    }
    if planned.plan().is_denied() {
        return denied(&run, planned, lock, &messages, applying).await;
    }
    if !applying.auto_approve && planned.plan().has_changes() && !approved(&run, applying, mode).await? {
        planned.close().await;
        release(lock, invocation).await;
        invocation.ui.err("Nothing was changed.\n");
        return Ok(Exit::Error);
    }
    // The objects may have changed while a person reviewed the plan, so they are read again. Without a review there is no promise to keep.
    apply(&run, planned, lock, applying, !applying.auto_approve).await
}

/// Ends a run whose plan is denied by a policy.
async fn denied(
    run: &Run<'_>,
    planned: Planned,
    lock: Lock,
    messages: &[Diagnostic],
    applying: &Applying,
) -> Result<Exit, Error> {
    planned.close().await;
    release(lock, run.invocation).await;
    if applying.json {
        run.invocation.ui.err(escape_json(&json::denied(&run.workspace.manifest.sources, messages)).into_owned());
        return Ok(Exit::Error);
    }
    run.print_policy_messages(messages);
    run.invocation.ui.err("\nNothing was changed.\n");
    Ok(Exit::Error)
}

async fn approved(run: &Run<'_>, applying: &Applying, mode: PlanMode) -> Result<bool, Error> {
    if !applying.input {
        return Err(Error::usage(
            "cannot ask for approval: --input=false",
            "add --auto-approve, or apply a saved plan",
        ));
    }
    let (question, detail) = match mode {
        PlanMode::Destroy => (
            "Do you really want to destroy these objects?",
            "moorfast will destroy all objects shown above. This cannot be undone.",
        ),
        PlanMode::RefreshOnly => (
            "Do you want to update the state?",
            "moorfast will record the drift shown above, without changing any object.",
        ),
        PlanMode::Normal => {
            ("Do you want to perform these actions?", "moorfast will perform exactly the actions described above.")
        }
    };
    let question = match &run.invocation.globals.env {
        Some(name) => format!("{} in the environment `{name}`?", question.trim_end_matches('?')),
        None => question.to_owned(),
    };
    let answer = approval::ask(&run.invocation.ui, &question, detail, &run.interrupt).await;
    run.progress.flush().await;
    answer
}

async fn apply(run: &Run<'_>, planned: Planned, lock: Lock, applying: &Applying, verify: bool) -> Result<Exit, Error> {
    let mode = planned.plan().options.mode;
    let started = Instant::now();
    let record = run.invocation.new_run(match mode {
        PlanMode::Destroy => "destroy",
        PlanMode::RefreshOnly => "apply --refresh-only",
        PlanMode::Normal => "apply",
    });
    lock.start_run(record.clone()).await?;
    let options = ApplyOptions {
        run: record.id.clone(),
        parallelism: applying.parallelism.into(),
        per_target: applying.per_node.into(),
        verify,
    };
    let report = planned.apply(&lock, options, &run.progress.events(), &run.interrupt).await;
    run.progress.flush().await;
    if let Err(error) = lock.finish_run(&record.id, run_end(&report)).await {
        run.invocation.ui.warn(format!("cannot record the end of this run: {error}"));
    }
    release(lock, run.invocation).await;
    print_report(run, &report, applying, mode, started.elapsed())?;
    Ok(exit(&report))
}

fn print_report(run: &Run, report: &Report, applying: &Applying, mode: PlanMode, took: Duration) -> Result<(), Error> {
    let ui = &run.invocation.ui;
    if applying.json {
        return ui.json(json::report(report, &run.workspace.manifest.sources));
    }
    let blank = || Text::from("\n");
    let failures = unsuccessful::failures(report, Some(&run.workspace.manifest));
    if !failures.is_empty() {
        ui.err(blank() + failures);
    }
    if !report.errors.is_empty() {
        ui.err(blank() + diagnostics(&run.workspace.manifest.sources, &report.errors));
    }
    if let Some(error) = &report.state_error {
        ui.err(blank() + failure::state(error));
    }
    ui.out(blank() + report::closing(report, mode, took))
}

/// Releases the lock. A lock that cannot be released expires soon after this process ended.
async fn release(lock: Lock, invocation: &Invocation) {
    if let Err(error) = lock.release().await {
        invocation.ui.warn(format!("cannot release the state lock: {error}"));
    }
}

/// Returns the entry for the history of runs.
fn run_end(report: &Report) -> RunEnd {
    let done = Done::of(report);
    let unsuccessful = Unsuccessful::of(report);
    let left = report.outcomes.iter().filter(|o| matches!(o.result, ChangeResult::RolloutStopped { .. })).count();
    let counts = [
        ("added", done.added),
        ("changed", done.changed),
        ("destroyed", done.destroyed),
        ("adopted", done.adopted),
        ("forgotten", done.forgotten),
        ("failed", unsuccessful.failed.len()),
        ("cancelled", unsuccessful.cancelled.len()),
        ("skipped", unsuccessful.skipped.len()),
        ("not started", unsuccessful.not_started.len()),
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

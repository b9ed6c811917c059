//! The laws, from the first plan to the destroy.

use std::collections::BTreeSet;
use std::sync::Arc;

use moorfast_engine::apply::{ChangeResult, Report};
use moorfast_engine::model::{Address, Diagnostic, Mark, Severity, Sources};
use moorfast_engine::plan::{Change, Plan, PlanMode, PlanOptions};
use moorfast_engine::provider::{Action, Provider};
use moorfast_engine::session::{Failure, Interrupt};
use serde_json::{Map, Value as Json};

use crate::disclosure::Secrets;
use crate::workbench::STATE;
use crate::{Case, Law, Violation, Workbench, declarations};

/// Runs a case with these providers and checks every [`Law`].
///
/// The objects of the case are removed at the end. If a law is broken, they stay as they are, for inspection.
///
/// # Errors
/// The first violation.
pub async fn check(providers: &[Arc<dyn Provider>], case: &Case) -> Result<(), Violation> {
    for provider in providers {
        declarations::check(provider.as_ref())?;
    }
    let workbench = Workbench::new(providers).map_err(|error| Violation::new(Law::Valid, error.to_string()))?;
    let mut run = Run { workbench, case, secrets: Secrets(&case.secrets) };
    run.accepts_unknown_values(providers)?;
    run.rejects()?;
    run.apply_all().await?;
    run.disturb().await?;
    run.import().await?;
    run.destroy().await
}

/// One run of a case.
struct Run<'c> {
    workbench: Workbench,
    case: &'c Case,
    secrets: Secrets<'c>,
}

impl Run<'_> {
    /// Checks that no version of the manifest becomes invalid because its values are not known yet.
    fn accepts_unknown_values(&self, providers: &[Arc<dyn Provider>]) -> Result<(), Violation> {
        for manifest in std::iter::once(&self.case.manifest).chain(&self.case.updates) {
            self.write(manifest)?;
            let workspace = self.workbench.workspace().map_err(|failure| violation(Law::Valid, &failure))?;
            for provider in providers {
                declarations::unknown_values(provider.as_ref(), &workspace.manifest)?;
            }
        }
        Ok(())
    }

    /// Checks that each invalid manifest is rejected, with the attribute named.
    fn rejects(&self) -> Result<(), Violation> {
        for (manifest, attribute) in &self.case.rejected {
            self.write(manifest)?;
            let workspace = self.workbench.workspace().map_err(|failure| violation(Law::Rejected, &failure))?;
            let diagnostics = workspace.validate();
            self.secrets.absent_in("a message of validation", &diagnostics)?;
            let errors: Vec<_> = diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
            if errors.is_empty() {
                let detail = format!("a manifest with an invalid `{attribute}` is accepted");
                return Err(Violation::new(Law::Rejected, detail));
            }
            if !errors.iter().any(|error| names(error, &workspace.manifest.sources, attribute)) {
                let found: Vec<_> = errors.iter().map(|error| error.summary.as_str()).collect();
                let detail = format!("no error is about `{attribute}`: {}", found.join("; "));
                return Err(Violation::new(Law::Rejected, detail));
            }
        }
        Ok(())
    }

    /// Applies the manifest, then every later version of it.
    async fn apply_all(&self) -> Result<(), Violation> {
        self.write(&self.case.manifest)?;
        let plan = self.plan(Law::Valid).await?;
        if let Some(change) = plan.changes.iter().find(|change| !matches!(change.action, Action::Create | Action::Read))
        {
            let detail = format!("{} exists before the first apply: {:?}", change.address, change.action);
            return Err(Violation::new(Law::Valid, detail));
        }
        self.apply(&plan).await?;
        for manifest in &self.case.updates {
            self.write(manifest)?;
            let plan = self.plan(Law::Valid).await?;
            if !plan.has_changes() {
                return Err(Violation::new(Law::Valid, "an update of the case changes nothing"));
            }
            self.apply(&plan).await?;
        }
        Ok(())
    }

    /// Applies what `plan` shows, and checks what follows from it.
    async fn apply(&self, plan: &Plan) -> Result<(), Violation> {
        self.applied(&PlanOptions::default(), Law::Applied).await?;
        let second = self.plan(Law::SecondPlanIsEmpty).await?;
        is_empty(&second, Law::SecondPlanIsEmpty)?;
        plan.changes.iter().try_for_each(|planned| shows_plan(planned, &second))?;
        no_drift(&second, "the read by the manifest")?;
        no_drift(&self.refresh().await?, "the read by the record alone")
    }

    /// Plans twice, and checks that this changes nothing and shows no secret.
    async fn plan(&self, law: Law) -> Result<Plan, Violation> {
        self.plan_with(&PlanOptions::default(), law).await
    }

    async fn refresh(&self) -> Result<Plan, Violation> {
        let options = PlanOptions { mode: PlanMode::RefreshOnly, ..PlanOptions::default() };
        self.plan_with(&options, Law::ReadShowsPlan).await
    }

    async fn plan_with(&self, options: &PlanOptions, law: Law) -> Result<Plan, Violation> {
        let before = self.snapshot();
        let first = self.workbench.plan(options).await.map_err(|failure| self.failed(law, &failure))?;
        let second = self.workbench.plan(options).await.map_err(|failure| self.failed(law, &failure))?;
        if before != self.snapshot() {
            return Err(Violation::new(Law::ReadsChangeNothing, "the objects differ after a plan"));
        }
        if let Some((_, differs)) = first.changes.iter().zip(&second.changes).find(|(one, other)| one != other) {
            let detail = format!("two plans in a row differ in {}", differs.address);
            return Err(Violation::new(Law::ReadsChangeNothing, detail));
        }
        self.secrets.absent_in("the debug output of a plan", &second)?;
        let json = serde_json::to_vec(&second).map_err(|error| Violation::new(law, error.to_string()))?;
        self.secrets.absent_in_bytes("a plan as JSON", &json)?;
        Ok(second)
    }

    /// Applies, and checks that every operation succeeds.
    async fn applied(&self, options: &PlanOptions, law: Law) -> Result<(), Violation> {
        let report = self.workbench.apply(options, &Interrupt::default()).await;
        let report = report.map_err(|failure| self.failed(law, &failure))?;
        self.report(&report, law)
    }

    fn report(&self, report: &Report, law: Law) -> Result<(), Violation> {
        self.secrets.absent_in("the report of an apply", report)?;
        self.secrets.absent_below(self.workbench.data_dir())?;
        match report.outcomes.iter().find(|outcome| !outcome.is_done()) {
            Some(outcome) => {
                let why = match &outcome.result {
                    ChangeResult::Failed(error) => error.to_string(),
                    other => format!("{other:?}"),
                };
                Err(Violation::new(law, format!("{}: {why}", outcome.address)))
            }
            None => Ok(()),
        }
    }

    /// Changes the objects outside moorfast, and checks that this shows and is corrected.
    async fn disturb(&self) -> Result<(), Violation> {
        let Some(disturbance) = &self.case.disturbance else { return Ok(()) };
        disturbance();
        if self.refresh().await?.drift.is_empty() {
            return Err(Violation::new(Law::DriftIsDetected, "the change made outside moorfast is not reported"));
        }
        let plan = self.plan(Law::DriftIsDetected).await?;
        if !plan.has_changes() {
            return Err(Violation::new(Law::DriftIsDetected, "the plan does not correct the change"));
        }
        self.apply(&plan).await
    }

    /// Imports the objects into another, empty state. Then the test continues with the state that knows that it created them.
    async fn import(&mut self) -> Result<(), Violation> {
        if !self.case.can_be_imported {
            return Ok(());
        }
        let recorded =
            self.workbench.state().await.map_err(|failure| self.failed(Law::ImportedPlanIsEmpty, &failure))?;
        let addresses: BTreeSet<Address> = recorded.records.keys().filter_map(|address| address.parse().ok()).collect();
        self.workbench.use_state(".moorfast-import");
        for address in addresses {
            let imported = self.workbench.import(&address).await;
            imported.map_err(|failure| self.failed(Law::ImportedPlanIsEmpty, &failure))?;
        }
        is_empty(&self.plan(Law::ImportedPlanIsEmpty).await?, Law::ImportedPlanIsEmpty)?;
        self.workbench.use_state(STATE);
        Ok(())
    }

    /// Destroys the objects, then destroys them again by a plan that was made while they existed.
    async fn destroy(&self) -> Result<(), Violation> {
        let options = PlanOptions { mode: PlanMode::Destroy, ..PlanOptions::default() };
        let interrupt = Interrupt::default();
        let failed = |failure: Failure| self.failed(Law::Destroyed, &failure);
        self.plan_with(&options, Law::Destroyed).await?;
        let first = self.workbench.planned(&options, &interrupt).await.map_err(failed)?;
        let second = self.workbench.planned(&options, &interrupt).await.map_err(failed)?;
        for planned in [first, second] {
            let report = self.workbench.carry_out(planned, &interrupt).await.map_err(failed)?;
            self.report(&report, Law::Destroyed)?;
        }
        let plan = self.plan(Law::Destroyed).await?;
        match plan.changes.iter().find(|change| !matches!(change.action, Action::Create | Action::Read)) {
            Some(change) => Err(Violation::new(Law::Destroyed, format!("{} is still there", change.address))),
            None => Ok(()),
        }
    }

    fn write(&self, manifest: &str) -> Result<(), Violation> {
        self.workbench.write(manifest).map_err(|error| Violation::new(Law::Valid, error.to_string()))
    }

    fn snapshot(&self) -> Option<String> {
        self.case.snapshot.as_ref().map(|snapshot| snapshot())
    }

    /// Returns the violation of `law` by a failure, unless the failure shows a secret, which is worse.
    fn failed(&self, law: Law, failure: &Failure) -> Violation {
        self.secrets.absent_in("an error", failure).err().unwrap_or_else(|| violation(law, failure))
    }
}

/// Whether a message is about this attribute: it quotes the name, or points to the line of the attribute.
fn names(error: &Diagnostic, sources: &Sources, attribute: &str) -> bool {
    let line = || {
        let (span, _) = error.at.as_ref()?;
        let (file, line, _) = sources.locate(*span)?;
        file.text.lines().nth(line - 1)
    };
    let is_line_of = |line: &str| line.split('=').next().is_some_and(|name| name.trim() == attribute);
    error.summary.contains(&format!("`{attribute}`")) || line().is_some_and(is_line_of)
}

fn is_empty(plan: &Plan, law: Law) -> Result<(), Violation> {
    match plan.changes.iter().find(|change| change.action.is_change()) {
        Some(change) => {
            let differs = differences(change.before.as_ref(), change.after.as_ref());
            let detail = format!("{}: {:?} because of {}", change.address, change.action, differs.join(", "));
            Err(Violation::new(law, detail))
        }
        None => Ok(()),
    }
}

/// Checks that the plan after an apply observes every attribute as it was planned. What was unknown is known only now.
fn shows_plan(planned: &Change, second: &Plan) -> Result<(), Violation> {
    let observed = second.changes.iter().find(|change| change.address == planned.address);
    let (Some(after), Some(now)) = (&planned.after, observed.and_then(|change| change.before.as_ref())) else {
        return Ok(());
    };
    let is_other = |(name, value): (&String, &Json)| {
        (!is_open(value) && now.get(name).is_some_and(|now| now != value)).then(|| name.clone())
    };
    match after.iter().find_map(is_other) {
        Some(name) => {
            let detail = format!("{}: `{name}` differs from the plan after the apply", planned.address);
            Err(Violation::new(Law::ReadShowsPlan, detail))
        }
        None => Ok(()),
    }
}

/// Whether a sealed value, or a part of it, was unknown or kept as it is.
fn is_open(value: &Json) -> bool {
    match value {
        _ if Mark::of(value).is_some_and(|mark| mark.is_unknown() || mark.is_retained()) => true,
        Json::Object(map) => map.values().any(is_open),
        Json::Array(items) => items.iter().any(is_open),
        _ => false,
    }
}

fn no_drift(plan: &Plan, reading: &str) -> Result<(), Violation> {
    match plan.drift.first() {
        Some(drift) => {
            let differs = differences(Some(&drift.before), drift.after.as_ref());
            let detail = format!("{}: {reading} differs from the record in {}", drift.address, differs.join(", "));
            Err(Violation::new(Law::ReadShowsPlan, detail))
        }
        None => Ok(()),
    }
}

/// Returns the names of the attributes that differ.
fn differences(before: Option<&Map<String, Json>>, after: Option<&Map<String, Json>>) -> Vec<String> {
    let names: BTreeSet<&String> = before.into_iter().chain(after).flat_map(Map::keys).collect();
    let value = |map: Option<&Map<String, Json>>, name: &String| map.and_then(|map| map.get(name)).cloned();
    names.into_iter().filter(|name| value(before, name) != value(after, name)).cloned().collect()
}

fn violation(law: Law, failure: &Failure) -> Violation {
    let lines: Vec<String> = match failure {
        Failure::Manifest(errors) => errors.iter().map(|error| error.summary.clone()).collect(),
        Failure::Providers(errors) => errors.iter().map(|(address, error)| format!("{address}: {error}")).collect(),
        Failure::Provider(name, error) => vec![format!("{name}: {error}")],
        other => vec![format!("{other:?}")],
    };
    Violation::new(law, lines.join("; "))
}

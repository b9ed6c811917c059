//! Import of existing objects: a refresh of one address that is not in the state.

use moorfast_state::{Lock, SealKey, Snapshot};

use crate::apply::{ApplyOptions, ChangeOutcome, Report};
use crate::configuration::expand::Expanded;
use crate::model::{Address, Diagnostic, Pattern, suggest};
use crate::plan::{PlanMode, PlanOptions};
use crate::session::{Events, Failure, Interrupt};
use crate::workspace::Workspace;

impl Workspace {
    /// Imports the objects of an instance of the manifest, or of all instances of a resource. Returns the addresses that were recorded.
    ///
    /// Instances that are in the state already are skipped.
    ///
    /// # Errors
    /// See [`Failure`]. An object that does not exist is a provider error. If an object cannot be read, nothing is recorded.
    pub async fn import(
        &self,
        pattern: &Pattern,
        state: &Snapshot,
        key: &SealKey,
        lock: &Lock,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Vec<Address>, Failure> {
        self.read_static_data(events, interrupt).await?;
        check_unrecorded(&*self.expanded().map_err(Failure::Manifest)?, pattern, state)?;
        let targets = vec![pattern.clone()];
        let options = PlanOptions { mode: PlanMode::RefreshOnly, imports: true, targets, ..PlanOptions::default() };
        let planned = self.plan(state, key, &options, events, interrupt).await?;
        let options = ApplyOptions { run: String::new(), parallelism: 1, per_target: 1, verify: false };
        imported(planned.apply(lock, options, events, interrupt).await)
    }
}

/// Returns the addresses that were recorded.
fn imported(report: Report) -> Result<Vec<Address>, Failure> {
    if let Some(error) = report.state_error {
        return Err(error.into());
    }
    if report.interrupted {
        return Err(Failure::Interrupted);
    }
    // An import has no operation that could fail.
    Ok(report.outcomes.into_iter().filter(ChangeOutcome::is_done).map(|outcome| outcome.address).collect())
}

/// Checks that `pattern` matches instances, and that at least one of them is not in the state.
fn check_unrecorded(expanded: &Expanded, pattern: &Pattern, state: &Snapshot) -> Result<(), Failure> {
    let named: Vec<_> = expanded.instances.iter().filter(|i| i.address.matches(pattern)).collect();
    if named.is_empty() {
        let message = format!("`{pattern}` is not in the manifest");
        let block = pattern.block();
        let of_block = expanded.instances.iter().filter(|instance| instance.address.matches(&block));
        let keys: Vec<_> = of_block.map(|instance| instance.address.to_string()).collect();
        let help = match suggest(&pattern.to_string(), keys.iter().map(String::as_str)) {
            Some(help) => help,
            None => "add the resource to the manifest first".to_owned(),
        };
        return Err(Failure::Manifest(vec![Diagnostic::error(message).help(help)]));
    }
    if named.iter().all(|i| state.records.contains_key(&i.address.to_string())) {
        let message = format!("`{pattern}` is in the state already");
        return Err(Failure::Manifest(vec![Diagnostic::error(message)]));
    }
    Ok(())
}

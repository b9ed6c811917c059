//! Reading static data, before the inventory is evaluated.

use std::sync::Arc;

use moorfast_state::SealKey;

use crate::configuration::evaluate::{desired, violated};
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::scope::{InstanceScope, Values};
use crate::configuration::static_data::StaticData;
use crate::configuration::static_sources::StaticSources;
use crate::model::{Attributes, Diagnostic, Value};
use crate::plan::{Batches, Plan, read_data, result_digest};
use crate::provider::DataRequest;
use crate::provider::catalog::Catalog;
use crate::session::{Events, Failure, Interrupt, Session};
use crate::workspace::{Cache, Workspace};

impl Workspace {
    /// Reads the static data sources of the manifest, unless that is done already. Without this, their values are unknown.
    ///
    /// # Errors
    /// If the manifest is invalid, or a data source cannot be read.
    pub async fn read_static_data(&self, events: &Events, interrupt: &Interrupt) -> Result<(), Failure> {
        if self.cache().static_data.is_some() {
            return Ok(());
        }
        let catalog = Catalog::new(&self.providers);
        let levels = StaticSources::new(&self.manifest, &catalog).levels();
        let is_empty = levels.is_empty();
        let mut data = StaticData::default();
        for level in levels {
            let known = Arc::new(data.clone());
            let (manifest, variables) = (self.manifest.clone(), self.variables.clone());
            let expanded =
                Expanded::of_static_data(manifest, variables, catalog.clone(), known).map_err(Failure::Manifest)?;
            let is_due =
                |instance: &&Instance| expanded.static_sources.level(&instance.address.resource) == Some(level);
            let instances: Vec<_> = expanded.instances.iter().filter(is_due).collect();
            self.read_wave(&expanded, &instances, &mut data, events, interrupt).await?;
        }
        let mut cache = self.cache();
        match is_empty {
            true => cache.static_data = Some(Arc::new(data)),
            // What was expanded without the data is not complete.
            false => *cache = Cache { static_data: Some(Arc::new(data)), ..Cache::default() },
        }
        Ok(())
    }

    /// Returns the reasons why a saved plan is stale: static data that changed since.
    pub(super) fn changed_static_data(&self, plan: &Plan, key: &SealKey) -> Vec<String> {
        let data = self.cache().static_data.clone().unwrap_or_default();
        let differs =
            |address: &str, result: &Attributes| plan.inputs.get(address) != Some(&result_digest(key, result));
        let results = data.results().map(|(address, result)| (address.to_string(), result));
        let changed = results.filter(|(address, result)| differs(address, result));
        changed.map(|(address, _)| format!("`{address}` changed since the plan was made")).collect()
    }

    /// Reads data sources that do not depend on each other.
    async fn read_wave(
        &self,
        expanded: &Expanded,
        instances: &[&Instance],
        data: &mut StaticData,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let requests = requests(expanded, instances).map_err(Failure::Manifest)?;
        let aliases = instances.iter().map(|instance| instance.provider.clone());
        let session = Session::open(expanded, aliases, &self.data_dir, events, interrupt).await?;
        let results = tokio::select! {
            results = read_data(&session, requests) => Ok(results),
            () = interrupt.stop.cancelled() => Err(Failure::Interrupted),
        };
        session.close().await;
        let mut failures = Vec::new();
        for (_, request, result) in results? {
            match result {
                Ok(read) => data.insert(request.address, request.arguments, read),
                Err(error) => failures.push((request.address, error)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::Providers(failures)) }
    }
}

/// Returns the requests of these instances, after checking their preconditions.
fn requests<'a>(
    expanded: &Expanded,
    instances: &[&'a Instance],
) -> Result<Batches<(&'a Instance, DataRequest)>, Vec<Diagnostic>> {
    let (mut requests, mut errors) = (Batches::default(), Vec::new());
    for instance in instances {
        match arguments(expanded, instance) {
            // A variable without a value is unknown in a validation.
            Ok(arguments) if arguments.values().any(Value::is_unknown) => {}
            Ok(arguments) => {
                let timeout = instance.resource.timeouts.get("read").copied();
                let data_source = instance.resource_type.clone();
                let request = DataRequest { address: instance.address.clone(), data_source, arguments, timeout };
                requests.add(&instance.provider, &instance.target, (*instance, request));
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(requests) } else { Err(errors) }
}

fn arguments(expanded: &Expanded, instance: &Instance) -> Result<Attributes, Vec<Diagnostic>> {
    let scope = InstanceScope::new(expanded, Values::none(), instance.binding.clone());
    let subject = format!("precondition of {}", instance.address);
    let violated = violated(&instance.resource.preconditions, &subject, &scope);
    if violated.is_empty() { desired(expanded, instance, Values::none()) } else { Err(violated) }
}

//! Taking over an object that is there already.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use moorfast_state::{Lock, Record, SealKey, Snapshot};
use serde_json::Value as Json;

use crate::early::Early;
use crate::graph::Graph;
use crate::session::Session;
use crate::{Address, Class, Events, Failure, Interrupt, ProviderError, ReadRequest, Workspace, seal_attributes};

impl Workspace {
    /// Reads what is there under the address of an instance of the manifest and records it.
    ///
    /// # Errors
    /// See [`Failure`]; that there is no such object is a provider error.
    pub async fn import(
        &self,
        address: &Address,
        state: &Snapshot,
        key: &SealKey,
        lock: &Lock,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let failed =
            |class, summary: String| Failure::Providers(vec![(address.clone(), ProviderError::new(class, summary))]);
        if state.records.contains_key(&address.to_string()) {
            return Err(failed(Class::Invalid, format!("`{address}` is in the state already")));
        }
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let mut graph = Graph::new(&expanded).map_err(Failure::Manifest)?;
        let early = Early::new(&expanded, &mut graph).map_err(Failure::Manifest)?;
        let Some(instance) = expanded.instance(address) else {
            return Err(failed(Class::Invalid, format!("the manifest has no `{address}`: write it there first")));
        };
        let Some(identity) = early.identity(&expanded, instance) else {
            let message = format!("it is not known which object `{address}` is until others were applied");
            return Err(failed(Class::Invalid, message));
        };
        let session = Session::open(&expanded, [instance.provider.clone()], &self.data_dir, events, interrupt).await?;
        let request = ReadRequest {
            address: address.clone(),
            resource_type: instance.resource_type.name.to_owned(),
            desired: early.get(address).cloned(),
            recorded: None,
        };
        let readings = match session.connection(&instance.provider) {
            Some(connection) => tokio::select! {
                readings = connection.read(&instance.target, std::slice::from_ref(&request)) => Some(readings),
                () = interrupt.stop.cancelled() => None,
            },
            None => Some(Vec::new()),
        };
        session.close().await;
        let Some(readings) = readings else { return Err(Failure::Interrupted) };
        let observed = match readings.into_iter().next() {
            Some(Ok(Some(observed))) => observed,
            Some(Err(error)) => return Err(Failure::Providers(vec![(address.clone(), error)])),
            _ => return Err(failed(Class::Invalid, format!("there is no {identity} on {}", instance.target))),
        };
        let attributes = crate::plan::mark_sensitive(&instance.resource_type.schema, observed.attributes);
        let dependencies = expanded.index.get(address).map(|i| graph.dependencies(*i).collect::<BTreeSet<_>>());
        let dependencies = dependencies.into_iter().flatten().map(|d| expanded.instances[d].address.to_string());
        let record = Record {
            address: address.to_string(),
            resource_type: instance.resource_type.name.to_owned(),
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            identity,
            attributes: seal_attributes(&attributes, key),
            dependencies: dependencies.collect(),
            triggers: BTreeMap::new(),
            private: Json::Null,
            prevent_destroy: instance.resource.lifecycle.prevent_destroy,
            incomplete: false,
            pending: Vec::new(),
            machine: None,
            updated_at: Timestamp::now(),
        };
        Ok(lock.put(record).await?)
    }
}

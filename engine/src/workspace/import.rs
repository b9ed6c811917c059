//! Import of existing objects.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use moorfast_state::{Lock, Record, SealKey, Snapshot};

use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::{Graph, matching};
use crate::configuration::static_values::StaticValues;
use crate::model::{Address, Diagnostic, Identified, Machine, NodeName, seal_attributes, suggest};
use crate::plan::read;
use crate::provider::{Class, Observed, ProviderError, ReadRequest, Target};
use crate::session::{Events, Failure, Interrupt, Session};
use crate::workspace::Workspace;

impl Workspace {
    /// Imports the objects of an instance of the manifest, or of all instances of a resource. Returns the addresses that were recorded.
    ///
    /// Instances that are in the state already are skipped.
    ///
    /// # Errors
    /// See [`Failure`]. An object that does not exist is a provider error. After an error, nothing is recorded.
    pub async fn import(
        &self,
        pattern: &Address,
        state: &Snapshot,
        key: &SealKey,
        lock: &Lock,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Vec<Address>, Failure> {
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let mut graph = Graph::new(&expanded).map_err(Failure::Manifest)?;
        let static_values = StaticValues::new(&expanded, &mut graph).map_err(Failure::Manifest)?;
        let instances = not_recorded(&expanded, pattern, state)?;
        let importing = Importing { expanded: &expanded, graph: &graph, static_values: &static_values, state, key };
        let identities = importing.identities(&instances)?;
        let aliases: BTreeSet<_> = instances.iter().flat_map(|i| importing.aliases(i)).collect();
        let session = Session::open(&expanded, aliases, &self.data_dir, events, interrupt).await?;
        let result = tokio::select! {
            result = importing.find(&instances, &session) => Some(result),
            () = interrupt.stop.cancelled() => None,
        };
        session.close().await;
        let (observed, machines) = result.ok_or(Failure::Interrupted)??;
        let records = instances.iter().zip(identities).zip(observed);
        let records = records.map(|((i, identity), observed)| importing.record(i, identity, observed, &machines));
        try_join_all(records.map(|record| lock.put(record))).await?;
        Ok(instances.iter().map(|instance| instance.address.clone()).collect())
    }
}

/// Returns the instances that match `pattern` and are not in the state.
fn not_recorded<'e>(expanded: &'e Expanded, pattern: &Address, state: &Snapshot) -> Result<Vec<&'e Instance>, Failure> {
    let named: Vec<_> = expanded.instances.iter().filter(|i| i.address.matches(pattern)).collect();
    if named.is_empty() {
        let message = format!("`{pattern}` is not in the manifest");
        let of_resource = expanded.by_resource.get(&pattern.resource).map(Vec::as_slice).unwrap_or_default();
        let keys: Vec<_> = of_resource.iter().map(|i| expanded.instances[*i].address.to_string()).collect();
        let help = match suggest(&pattern.to_string(), keys.iter().map(String::as_str)) {
            Some(help) => help,
            None => "add the resource to the manifest first".to_owned(),
        };
        return Err(Failure::Manifest(vec![Diagnostic::error(message).help(help)]));
    }
    let is_new = |i: &&Instance| !state.records.contains_key(&i.address.to_string());
    let new: Vec<_> = named.into_iter().filter(is_new).collect();
    if new.is_empty() {
        let message = format!("`{pattern}` is in the state already");
        return Err(Failure::Manifest(vec![Diagnostic::error(message)]));
    }
    Ok(new)
}

fn failed(address: &Address, error: ProviderError) -> Failure {
    Failure::Providers(vec![(address.clone(), error)])
}

/// The data of an import.
struct Importing<'a> {
    expanded: &'a Expanded,
    graph: &'a Graph,
    static_values: &'a StaticValues,
    state: &'a Snapshot,
    key: &'a SealKey,
}

impl Importing<'_> {
    /// Returns the identity of each instance.
    fn identities(&self, instances: &[&Instance]) -> Result<Vec<String>, Failure> {
        let identity = |instance: &&Instance| {
            self.static_values.identity(instance).ok_or_else(|| {
                let address = &instance.address;
                let message =
                    format!("cannot import `{address}`: its identity depends on resources that are not applied yet");
                failed(address, ProviderError::new(Class::Invalid, message))
            })
        };
        instances.iter().map(identity).collect()
    }

    /// Returns the provider instances that reach an instance and its node.
    fn aliases(&self, instance: &Instance) -> Vec<String> {
        let node = instance.machine();
        let of_node = node.and_then(|node| self.provider_of(node)).map(|(alias, _)| alias.to_owned());
        [instance.provider.clone()].into_iter().chain(of_node).collect()
    }

    /// Returns the provider instance that reaches a node, and the target.
    fn provider_of(&self, node: &NodeName) -> Option<(&str, &Target)> {
        let is_there = |i: &&Instance| matches!(&i.target, Target::Node(target) if target.name == *node);
        let instance = self.expanded.instances.iter().find(is_there)?;
        Some((&instance.provider, &instance.target))
    }

    /// Reads the objects of the instances, and identifies the machines of their nodes.
    async fn find(
        &self,
        instances: &[&Instance],
        session: &Session,
    ) -> Result<(Vec<Observed>, BTreeMap<NodeName, Machine>), Failure> {
        let machines = self.machines(instances, session).await?;
        let mut calls: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (place, instance) in instances.iter().enumerate() {
            calls.entry((&instance.provider, instance.target.name())).or_default().push(place);
        }
        let readings = calls.into_iter().map(|((alias, _), places)| async move {
            let connection = session.connection(alias)?;
            let requests: Vec<_> = places.iter().map(|place| self.request(instances[*place])).collect();
            let target = &instances[*places.first()?].target;
            let readings = read(connection, target, &requests, self.expanded, &session.events).await;
            Some(places.into_iter().zip(readings).collect::<Vec<_>>())
        });
        let mut observed: BTreeMap<usize, Observed> = BTreeMap::new();
        let mut failures = Vec::new();
        for (place, reading) in join_all(readings).await.into_iter().flatten().flatten() {
            let Instance { address, target, .. } = instances[place];
            match reading {
                Ok(Some(object)) => _ = observed.insert(place, object),
                Ok(None) => {
                    let identity = self.static_values.identity(instances[place]).unwrap_or_default();
                    let message = format!("{identity} does not exist on {target}");
                    failures.push((address.clone(), ProviderError::new(Class::Invalid, message)));
                }
                Err(error) => failures.push((address.clone(), error)),
            }
        }
        if failures.is_empty() {
            Ok((observed.into_values().collect(), machines))
        } else {
            Err(Failure::Providers(failures))
        }
    }

    fn request(&self, instance: &Instance) -> ReadRequest {
        instance.read_request(self.static_values.get(&instance.address).cloned(), None)
    }

    /// Identifies the machines of the nodes of the instances.
    async fn machines(
        &self,
        instances: &[&Instance],
        session: &Session,
    ) -> Result<BTreeMap<NodeName, Machine>, Failure> {
        let nodes: BTreeSet<_> = instances.iter().filter_map(|i| i.machine()).collect();
        let mut machines = BTreeMap::new();
        for node in nodes {
            let Some((alias, target)) = self.provider_of(node) else { continue };
            let Some(connection) = session.connection(alias) else { continue };
            // A node that does not answer is reported by the reading.
            let Ok(Some(Identified { machine, trusted: true })) = connection.identify(target).await else { continue };
            let known = self.state.nodes.get(&node.0).and_then(|known| serde_json::from_value(known.clone()).ok());
            if known.and_then(|known: Machine| known.became(&machine)).is_some_and(|kind| kind.is_another_machine()) {
                let error =
                    ProviderError::new(Class::Identity, format!("another machine answers as the node `{node}`")).help(
                        format!(
                            "run `moorfast plan` to see which one; `moorfast apply --replace-node {node}` accepts it"
                        ),
                    );
                return Err(Failure::Provider(alias.to_owned(), Box::new(error)));
            }
            machines.insert(node.clone(), machine);
        }
        Ok(machines)
    }

    fn record(
        &self,
        instance: &Instance,
        identity: String,
        observed: Observed,
        machines: &BTreeMap<NodeName, Machine>,
    ) -> Record {
        let place = self.expanded.index.get(&instance.address);
        let dependencies = place.into_iter().flat_map(|place| self.graph.dependencies(*place));
        let dependencies: BTreeSet<_> = dependencies.map(|d| self.expanded.instances[d].address.to_string()).collect();
        let watched = instance.resource.restart_on.iter().chain(&instance.resource.lifecycle.replace_triggered_by);
        let watched = watched.filter_map(|(p, _)| matching(self.expanded, p, &instance.binding)).flatten();
        let digest = |address: Address| {
            let address = address.to_string();
            let digest = self.state.records.get(&address)?.digest();
            Some((address, digest))
        };
        let machine = instance.machine().and_then(|node| machines.get(node)?.machine_id.clone());
        Record {
            address: instance.address.to_string(),
            resource_type: instance.resource_type.name().to_owned(),
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            identity,
            attributes: seal_attributes(&observed.attributes, self.key),
            dependencies: dependencies.into_iter().collect(),
            triggers: watched.filter_map(digest).collect(),
            private: observed.private,
            prevent_destroy: instance.resource.lifecycle.prevent_destroy,
            incomplete: false,
            pending: Vec::new(),
            machine,
            updated_at: Timestamp::now(),
        }
    }
}

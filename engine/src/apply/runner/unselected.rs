//! Instances that a gate uses but `--target` or `--exclude` did not select. They are read when the gate is evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::apply::context::ApplyContext;
use crate::configuration::scope::Values;
use crate::model::{Address, Mode, Value};
use crate::provider::{Class, Connection, DataRequest, ProviderError, ReadRequest, Target};

/// Unselected instances on one target, with everything that is needed to read them.
pub(super) struct UnselectedInstances {
    connection: Arc<dyn Connection>,
    target: Target,
    objects: Vec<ReadRequest>,
    data: Vec<DataRequest>,
}

/// Returns those of `addresses` that have no known values and can be read.
pub(super) fn unselected(context: &ApplyContext, addresses: &BTreeSet<Address>) -> Vec<UnselectedInstances> {
    let ApplyContext { expanded, static_values, session, values, .. } = context;
    let mut calls: BTreeMap<(&str, &str), UnselectedInstances> = BTreeMap::new();
    let unknown = addresses.iter().filter(|address| values.get(address).is_none());
    for instance in unknown.filter_map(|address| expanded.instance(address)) {
        let address = instance.address.clone();
        let Some(connection) = session.connection(&instance.provider) else { continue };
        let Some(desired) = static_values.get(&address).cloned() else { continue };
        let call = calls.entry((&instance.provider, instance.target.name())).or_insert_with(|| UnselectedInstances {
            connection: connection.clone(),
            target: instance.target.clone(),
            objects: Vec::new(),
            data: Vec::new(),
        });
        match address.resource.mode {
            Mode::Managed if instance.identity(&desired).is_some() => {
                call.objects.push(instance.read_request(Some(desired), None));
            }
            Mode::Data if !desired.values().any(Value::is_unknown) => {
                let timeout = context.timeout(&address, "read");
                let data_source = instance.resource_type.clone();
                call.data.push(DataRequest { address, data_source, arguments: desired, timeout });
            }
            _ => {}
        }
    }
    calls.into_values().collect()
}

impl UnselectedInstances {
    /// Reads the instances into `values`.
    ///
    /// # Errors
    /// If an instance cannot be read or does not exist.
    pub async fn read(self, values: &mut Values) -> Result<(), ProviderError> {
        let Self { connection, target, objects, data } = self;
        if !objects.is_empty() {
            let results = connection.read(&target, &objects).await;
            for (ReadRequest { address, desired, .. }, result) in objects.into_iter().zip(results) {
                let absent = || ProviderError::new(Class::Failed, format!("{address} does not exist"));
                let mut attributes = desired.unwrap_or_default();
                attributes.extend(result?.ok_or_else(absent)?.attributes);
                values.insert(address, attributes);
            }
        }
        if !data.is_empty() {
            let results = connection.read_data(&target, &data).await;
            for (DataRequest { address, mut arguments, .. }, result) in data.into_iter().zip(results) {
                arguments.extend(result?);
                values.insert(address, arguments);
            }
        }
        Ok(())
    }
}

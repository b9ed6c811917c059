//! The requests to read objects, for the prior state and the manifest.

use super::batches::Batches;
use super::inputs::Inputs;
use super::machines::Machines;
use super::model::PlanMode;
use super::prior::Prior;
use super::readings::{ReadingKey, Readings};
use super::selected::Selected;
use crate::configuration::expand::Instance;
use crate::model::{Attributes, Recorded, Value};
use crate::provider::{ReadRequest, Target};

/// The requests to read, each with the key of its reading.
pub(super) type ReadRequests = Batches<(ReadingKey, ReadRequest)>;

/// Returns the requests for all objects on these targets whose identity is known already.
pub(super) fn known_objects(
    inputs: &Inputs,
    prior: &Prior,
    selected: &Selected,
    is_read: impl Fn(&Target) -> bool,
) -> ReadRequests {
    let mut requests = Batches::default();
    for (address, record) in prior.records.iter().filter(|(address, _)| selected.contains(address)) {
        let Some(target) = inputs.reachable_target_of(address, record).filter(&is_read) else { continue };
        let Some(mut request) = inputs.expanded.read_request(address, record.shared()) else { continue };
        let instance = inputs.expanded.instance(address).filter(|_| inputs.options.mode != PlanMode::Destroy);
        // If the identity changed, the old object is read by its record and the new one by the manifest.
        let key = if instance.is_some_and(|instance| inputs.is_same_object(instance, record)) {
            request.desired = inputs.static_values.get(address).cloned();
            ReadingKey::Current(address.clone())
        } else {
            ReadingKey::Former(address.clone())
        };
        requests.add(&record.provider, &target, (key, request));
        if inputs.options.mode == PlanMode::RefreshOnly {
            continue;
        }
        for pending in record.pending() {
            let Some(request) = inputs.expanded.read_request(address, pending.shared()) else { continue };
            let key = ReadingKey::Pending(address.clone(), pending.identity.clone());
            requests.add(&record.provider, &target, (key, request));
        }
    }
    if inputs.options.mode != PlanMode::Normal && !inputs.options.imports {
        return requests;
    }
    for instance in selected.instances().filter(|instance| is_read(&instance.target)) {
        let recorded = prior.records.get(&instance.address);
        if inputs.static_identity(instance).is_none() || recorded.is_some_and(|r| inputs.is_same_object(instance, r)) {
            continue;
        }
        let request = instance.read_request(inputs.static_values.get(&instance.address).cloned(), None);
        requests.add(&instance.provider, &instance.target, (ReadingKey::Current(instance.address.clone()), request));
    }
    requests
}

/// Returns the requests for the instances whose identity or reading depended on earlier readings.
pub(super) fn remaining_objects(
    inputs: &Inputs,
    prior: &Prior,
    machines: &Machines,
    readings: &Readings,
    desired: &[(&Instance, Attributes)],
) -> ReadRequests {
    let mut requests = Batches::default();
    for (instance, attributes) in desired {
        let key = ReadingKey::Current(instance.address.clone());
        let is_read = readings.0.contains_key(&key) && !needs_second_read(inputs, instance);
        if is_read || machines.is_unread(&instance.target) || instance.identity(attributes).is_none() {
            continue;
        }
        let recorded = prior.records.get(&instance.address);
        let recorded = recorded.filter(|record| instance.continues(record, attributes));
        let request = instance.read_request(Some(attributes.clone()), recorded.map(Recorded::shared));
        requests.add(&instance.provider, &instance.target, (key, request));
    }
    requests
}

/// Whether the instance was read while some of its attributes were unknown, and its reading depends on them.
fn needs_second_read(inputs: &Inputs, instance: &Instance) -> bool {
    let static_values = inputs.static_values.get(&instance.address);
    let is_open = static_values.is_some_and(|static_values| static_values.values().any(Value::is_unknown));
    is_open && instance.resource_type.reading_needs_desired()
}

//! Data sources: read during the plan, or deferred to the apply.

use futures::future::join_all;

use super::Change;
use super::planner::Planner;
use super::requests::{Requests, with_missing_answers};
use crate::configuration::expand::Instance;
use crate::configuration::static_values::{deduplicated, with_unknown};
use crate::model::{Attributes, Value, seal_attributes};
use crate::provider::{Action, DataRequest};
use crate::session::Failure;

impl Planner<'_> {
    /// Reads the data sources of a wave. A data source that depends on a planned change is deferred to the apply.
    pub(super) async fn read_data(&mut self, data: Vec<&Instance>) -> Result<(), Failure> {
        let mut errors = Vec::new();
        let mut requests: Requests<DataRequest> = Requests::default();
        for instance in data {
            let arguments = match self.desired(instance) {
                Ok(arguments) => arguments,
                Err(diagnostics) => {
                    errors.extend(diagnostics);
                    continue;
                }
            };
            let pending = self
                .dependencies(&instance.address)
                .iter()
                .any(|d| self.actions.get(d).is_some_and(|action| !matches!(action, Action::NoOp | Action::Adopt)));
            if pending || self.is_on_unapproved_node(instance) || arguments.values().any(Value::is_unknown) {
                self.defer_to_apply(instance, &arguments);
                continue;
            }
            let timeout = instance.resource.timeouts.get("read").copied();
            let data_source = instance.resource_type.clone();
            let request = DataRequest { address: instance.address.clone(), data_source, arguments, timeout };
            requests.add(&instance.provider, &instance.target, request);
        }
        if !errors.is_empty() {
            return Err(Failure::Manifest(deduplicated(errors)));
        }
        let session = self.session;
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let results = match session.connection(&alias) {
                Some(connection) => connection.read_data(&target, &requests).await,
                None => Vec::new(),
            };
            requests.into_iter().zip(with_missing_answers(results)).collect::<Vec<_>>()
        });
        let results: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        let mut failures = Vec::new();
        for (request, result) in results {
            match result {
                Ok(attributes) => {
                    let mut values = request.arguments;
                    values.extend(self.marked(&request.address, attributes));
                    if let Some(instance) = self.expanded.instance(&request.address) {
                        self.check_postconditions(instance, &values)?;
                    }
                    self.draft.values.insert(request.address, values);
                }
                Err(error) => failures.push((request.address, error)),
            }
        }
        self.note_unread(failures)
    }

    /// Plans to read a data source during the apply.
    pub(super) fn defer_to_apply(&mut self, instance: &Instance, arguments: &Attributes) {
        let address = instance.address.clone();
        self.draft.values.insert(address.clone(), with_unknown(instance, arguments.clone()));
        self.actions.insert(address.clone(), Action::Read);
        self.draft.changes.push(Change {
            dependencies: self.dependencies(&address),
            moved_from: None,
            resource_type: instance.resource_type.name().to_owned(),
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            node: instance.node_name(),
            identity: None,
            action: Action::Read,
            reasons: Vec::new(),
            before: None,
            after: Some(seal_attributes(arguments, self.key)),
            observed: None,
            objects: Vec::new(),
            consequences: Vec::new(),
            notes: Vec::new(),
            address,
        });
    }
}

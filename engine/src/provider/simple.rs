//! The simple way to write a provider: each type reads and changes one object at a time, and the rest of the interface follows from that.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use serde_json::Value as Json;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Applied, Class, Connection, Context, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest,
    Proposal, ProposedAction, Provider, ProviderError, ReadRequest, ResourceType, Target, TargetKind,
};
use crate::model::{Attributes, Schema, Value};

/// The maximum number of objects that are read or changed at the same time.
const CONCURRENT: usize = 10;

/// A resource type of a [`SimpleProvider`]: its objects live in the one target of the provider, and are read and changed one at a time.
///
/// `C` is the client of the provider, which every method that accesses the target gets. An object is found by its identity alone, and changed in place. A change
/// of an attribute that [`replaces`](crate::model::Attribute::replaces) makes the engine destroy the object and create it again.
///
/// A provider that needs more, such as batches or nodes as targets, implements [`Provider`], [`ResourceType`] and [`Connection`] instead.
#[async_trait]
pub trait SimpleResource<C>: Send + Sync {
    /// Returns the name of the type: the name of the provider, `_`, and a word.
    fn name(&self) -> &'static str;

    /// Returns the schema.
    fn schema(&self) -> Schema;

    /// Returns the identity of an object, as [`ResourceType::identity`] does.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Checks the rules that the schema cannot express, as [`ResourceType::validate`] does.
    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Returns the computed attributes that follow from the desired ones. All others are known after the operation.
    fn computed(&self, _desired: &Attributes) -> Attributes {
        Attributes::new()
    }

    /// Returns the attributes of the object, in the form in which the manifest writes them. Returns `None` if the object does not exist. Changes nothing.
    ///
    /// # Errors
    /// If the object cannot be read. If the target does not answer, the class is [`Class::Unreachable`].
    async fn read(&self, client: &C, identity: &str) -> Result<Option<Attributes>, ProviderError>;

    /// Creates the object, and returns its private data. Replaces no object that exists already, because the plan did not show it.
    ///
    /// # Errors
    /// If the object cannot be created. If a part of it was created, the error has the private data.
    async fn create(&self, client: &C, desired: &Attributes) -> Result<Json, ProviderError>;

    /// Gives the object its desired attributes. The object keeps the value of a retained attribute ([`Value::Retained`]).
    ///
    /// # Errors
    /// If the object cannot be changed.
    async fn update(&self, client: &C, desired: &Attributes) -> Result<(), ProviderError>;

    /// Deletes the object. Succeeds if the object does not exist. `private` is what [`SimpleResource::create`] returned, or null if the object was imported.
    ///
    /// # Errors
    /// If the object cannot be deleted.
    async fn delete(&self, client: &C, identity: &str, private: &Json) -> Result<(), ProviderError>;
}

/// A provider with one target, made of [`SimpleResource`]s.
pub struct SimpleProvider<C> {
    name: &'static str,
    config_schema: Schema,
    connect: fn(&Attributes, Context) -> Result<C, ProviderError>,
    types: Vec<Arc<dyn ResourceType>>,
}

impl<C: Send + Sync + 'static> SimpleProvider<C> {
    /// Returns a provider without types. `connect` returns the client for a configuration; it connects to nothing yet.
    pub fn new(
        name: &'static str,
        config_schema: Schema,
        connect: fn(&Attributes, Context) -> Result<C, ProviderError>,
    ) -> Self {
        Self { name, config_schema, connect, types: Vec::new() }
    }

    /// Adds a resource type.
    pub fn with(mut self, resource: impl SimpleResource<C> + 'static) -> Self {
        let (name, schema) = (resource.name(), resource.schema());
        let declaration = Declaration { name, target_kind: TargetKind::Provider, schema };
        self.types.push(Arc::new(Held { declaration, resource: Box::new(resource) }));
        self
    }
}

#[async_trait]
impl<C: Send + Sync + 'static> Provider for SimpleProvider<C> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn config_schema(&self) -> Schema {
        self.config_schema.clone()
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        self.types.clone()
    }

    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        let client = (self.connect)(config, context.clone())?;
        Ok(Arc::new(SimpleConnection { client, context }))
    }
}

/// A simple resource as the engine holds it.
struct Held<C> {
    declaration: Declaration,
    resource: Box<dyn SimpleResource<C>>,
}

impl<C: 'static> ResourceType for Held<C> {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        self.resource.identity(attributes)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        self.resource.validate(attributes)
    }
}

/// Returns the simple resource that a request is about.
fn resource<C: 'static>(resource_type: &dyn ResourceType) -> Result<&dyn SimpleResource<C>, ProviderError> {
    let any: &dyn Any = resource_type;
    let held = any.downcast_ref::<Held<C>>().map(|held| &*held.resource);
    held.ok_or_else(|| ProviderError::new(Class::Invalid, format!("{} is of another provider", resource_type.name())))
}

/// A configured simple provider.
struct SimpleConnection<C> {
    client: C,
    context: Context,
}

#[async_trait]
impl<C: Send + Sync + 'static> Connection for SimpleConnection<C> {
    async fn read(&self, _: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let observed = |read: Option<Attributes>| read.map(|attributes| Observed { attributes, ..Observed::default() });
        let read = |request: &ReadRequest| {
            let (resource_type, identity) = (request.resource_type.clone(), request.identity());
            async move {
                let Some(identity) = identity else { return Ok(None) };
                resource::<C>(&*resource_type)?.read(&self.client, &identity).await.map(observed)
            }
        };
        let reads: Vec<_> = requests.iter().map(read).collect();
        stream::iter(reads).buffered(CONCURRENT).collect().await
    }

    async fn plan(&self, _: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        let propose = |request: &PlanRequest| {
            Ok(proposal(request, resource::<C>(&*request.resource_type)?.computed(&request.desired)))
        };
        requests.iter().map(propose).collect()
    }

    async fn apply(
        &self,
        _: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        let run = |(index, operation): (usize, Operation)| {
            let outcomes = outcomes.clone();
            async move {
                // The receiver is gone only when the run is.
                _ = outcomes.send((index, self.run(&operation).await));
            }
        };
        let all: Vec<_> = operations.iter().cloned().enumerate().map(run).collect();
        stream::iter(all).buffer_unordered(CONCURRENT).collect::<()>().await;
    }
}

impl<C: Send + Sync + 'static> SimpleConnection<C> {
    /// Runs an operation within its limits.
    async fn run(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let address = &operation.address;
        self.context.start_permit.check(address)?;
        let error = |class, what: &str| Err(ProviderError::new(class, format!("{address} {what}")));
        let timeout = async {
            match operation.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = self.perform(operation) => outcome,
            () = timeout => error(Class::Timeout, "did not complete in time"),
            () = self.context.cancel.cancelled() => error(Class::Cancelled, "was cancelled"),
        }
    }

    async fn perform(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let resource = resource::<C>(&*operation.resource_type)?;
        let recorded = operation.recorded.as_ref().map(|record| record.private.clone()).unwrap_or_default();
        let (desired, private) = match &operation.action {
            OperationAction::Create(desired) => (desired, resource.create(&self.client, desired).await?),
            OperationAction::Update(desired) => {
                resource.update(&self.client, desired).await?;
                (desired, recorded)
            }
            OperationAction::Delete => {
                let identity = operation.identity().unwrap_or_default();
                resource.delete(&self.client, &identity, &recorded).await?;
                return Ok(Applied::default());
            }
        };
        let identity = resource.identity(desired).unwrap_or_default();
        let attributes = resource.read(&self.client, &identity).await?.unwrap_or_default();
        Ok(Applied { attributes, private, notes: Vec::new() })
    }
}

/// Returns the proposal for an object that is changed in place. `computed` are the computed attributes that are known already.
fn proposal(request: &PlanRequest, computed: Attributes) -> Proposal {
    let schema = request.resource_type.schema();
    let observed = request.observed.as_ref().map(|observed| &observed.attributes);
    let now = |name: &str| observed.and_then(|observed| observed.get(name)).unwrap_or(&Value::Null);
    let mut planned = request.desired.clone();
    planned.extend(computed);
    let retained = planned.iter().filter(|(_, value)| value.is_retained()).map(|(name, _)| name.clone());
    for name in retained.collect::<Vec<_>>() {
        let value = now(&name).clone();
        planned.insert(name, value);
    }
    let is_changed = |name: &&str| planned.get(name).unwrap_or(&Value::Null).reveal_deep() != now(name).reveal_deep();
    let is_open =
        |name: &&str| schema.attribute(name).is_some_and(|attribute| attribute.computed) && !planned.contains_key(name);
    let names: Vec<_> = schema.attributes.iter().map(|attribute| attribute.name).collect();
    let changed: Vec<_> = names.iter().copied().filter(|name| !is_open(name) && is_changed(name)).collect();
    let replaces = |name: &&str| schema.attribute(name).is_some_and(|attribute| attribute.forces_replacement);
    let replaced: Vec<_> = changed.iter().copied().filter(replaces).map(str::to_owned).collect();
    let action = match observed {
        None => ProposedAction::Create,
        Some(_) if changed.is_empty() => ProposedAction::NoOp,
        Some(_) if replaced.is_empty() => ProposedAction::Update,
        Some(_) => ProposedAction::Replace(replaced),
    };
    let open: Vec<_> = names.iter().copied().filter(is_open).collect();
    for name in open {
        let value = if action == ProposedAction::NoOp { now(name).clone() } else { Value::Unknown };
        planned.insert(name.to_owned(), value);
    }
    let mut proposal = Proposal::new(action, planned);
    proposal.consequences.extend(request.overwrite(&proposal, &changed));
    proposal
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Attribute, Kind};
    use crate::provider::Consequence;

    struct Entry;

    #[async_trait]
    impl SimpleResource<()> for Entry {
        fn name(&self) -> &'static str {
            "kv_entry"
        }

        fn schema(&self) -> Schema {
            let key = Attribute::required("key", Kind::String, "Its key.").replaces();
            let value = Attribute::required("value", Kind::String, "Its value.").secret();
            Schema::new("An entry.", [key, value, Attribute::computed("revision", Kind::Integer, "Its revision.")])
        }

        fn identity(&self, attributes: &Attributes) -> Option<String> {
            attributes.get("key").and_then(Value::as_str).map(str::to_owned)
        }

        async fn read(&self, _: &(), _: &str) -> Result<Option<Attributes>, ProviderError> {
            Ok(None)
        }

        async fn create(&self, _: &(), _: &Attributes) -> Result<Json, ProviderError> {
            Ok(Json::Null)
        }

        async fn update(&self, _: &(), _: &Attributes) -> Result<(), ProviderError> {
            Ok(())
        }

        async fn delete(&self, _: &(), _: &str, _: &Json) -> Result<(), ProviderError> {
            Ok(())
        }
    }

    fn attributes(json: Json) -> Attributes {
        Value::from(json).as_map().cloned().unwrap_or_default()
    }

    fn proposed(desired: Attributes, observed: Option<Json>, foreign: bool) -> Proposal {
        let provider = SimpleProvider::new("kv", Schema::default(), |_, _| Ok(())).with(Entry);
        let request = PlanRequest {
            address: "kv_entry.a".parse().unwrap(),
            resource_type: provider.types[0].clone(),
            desired,
            recorded: None,
            observed: observed.map(|json| Observed { attributes: attributes(json), private: Json::Null }),
            ignored: Vec::new(),
            foreign,
            triggers: Vec::new(),
            dependencies: Vec::new(),
        };
        proposal(&request, Attributes::new())
    }

    #[test]
    fn the_proposal_follows_from_the_attributes_that_differ() {
        let desired = || attributes(json!({ "key": "a", "value": "x" }));
        let now = |key: &str, value: &str| Some(json!({ "key": key, "value": value, "revision": 7 }));
        let replaced = ProposedAction::Replace(vec!["key".to_owned()]);
        for (observed, action, revision) in [
            (None, ProposedAction::Create, Value::Unknown),
            (now("a", "x"), ProposedAction::NoOp, Value::from(7)),
            (now("a", "y"), ProposedAction::Update, Value::Unknown),
            (now("b", "x"), replaced, Value::Unknown),
        ] {
            let proposal = proposed(desired(), observed, false);
            assert_eq!((proposal.action, &proposal.planned["revision"]), (action, &revision));
        }
    }

    #[test]
    fn a_retained_value_is_the_observed_one_and_a_changed_foreign_object_is_overwritten() {
        let retained = Attributes::from([("key".to_owned(), Value::from("a")), ("value".to_owned(), Value::Retained)]);
        let observed = json!({ "key": "a", "value": "x" });
        let kept = proposed(retained, Some(observed.clone()), true);
        assert_eq!((kept.action, &kept.planned["value"]), (ProposedAction::NoOp, &Value::from("x")));
        assert!(kept.consequences.is_empty());
        let changed = proposed(attributes(json!({ "key": "a", "value": "y" })), Some(observed), true);
        assert_eq!(changed.consequences, [Consequence::Overwrite]);
    }
}

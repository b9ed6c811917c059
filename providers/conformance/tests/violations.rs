//! Each law finds the fault that breaks it.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use moorfast_conformance::{Case, Law, check};
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Applied, Class, Connection, Context, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest,
    Proposal, ProposedAction, Provider, ProviderError, ReadRequest, ResourceType, Target, TargetKind,
};
use tokio::sync::mpsc::UnboundedSender;

/// How the provider is faulty.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Undocumented,
    RejectsUnknown,
    AcceptsInvalid,
    ReadWrites,
    FailsToApply,
    WritesAnotherValue,
    ReturnsAnotherValue,
    NeverSettles,
    MissesDrift,
    ForgetsSecrecy,
    ReadsOnlyByRecord,
    DeleteOfAbsentFails,
}

/// The provider `kv` with the type `kv_item`, whose values are in memory.
#[derive(Clone)]
struct Faulty {
    fault: Fault,
    items: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, items: Arc::default() }
    }

    fn items(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.items.lock().unwrap()
    }

    fn attributes(&self, key: &str, value: &str) -> Attributes {
        let value = Value::from(value);
        let value = if self.fault == Fault::ForgetsSecrecy { value } else { value.sensitive() };
        [("key".to_owned(), Value::from(key)), ("value".to_owned(), value)].into()
    }

    fn observe(&self, request: &ReadRequest) -> Option<Observed> {
        let key = match (&request.desired, &request.recorded) {
            (Some(desired), _) => text(desired, "key"),
            (None, record) => record.as_ref().map(|record| record.identity.clone()).unwrap_or_default(),
        };
        if self.fault == Fault::ReadWrites {
            self.items().entry("reads".to_owned()).or_default().push('x');
        }
        if self.fault == Fault::ReadsOnlyByRecord && request.recorded.is_none() {
            return None;
        }
        let mut value = self.items().get(&key)?.clone();
        if self.fault == Fault::MissesDrift && value == "changed by hand" {
            value = "hidden-second".to_owned();
        }
        Some(Observed { attributes: self.attributes(&key, &value), private: serde_json::Value::Null })
    }

    fn propose(&self, request: &PlanRequest) -> Proposal {
        let action = match &request.observed {
            None => ProposedAction::Create,
            Some(_) if self.fault == Fault::NeverSettles => ProposedAction::Update,
            Some(observed) if text(&observed.attributes, "value") == text(&request.desired, "value") => {
                ProposedAction::NoOp
            }
            // Takes what it wrote for what was desired, so that only the comparison with the plan finds the fault.
            Some(observed) if text(&observed.attributes, "value").starts_with("another") => ProposedAction::NoOp,
            Some(_) => ProposedAction::Update,
        };
        Proposal::new(action, request.desired.clone())
    }

    fn perform(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let (OperationAction::Create(desired) | OperationAction::Update(desired)) = &operation.action else {
            let key = operation.recorded.as_ref().map(|record| record.identity.clone()).unwrap_or_default();
            return match self.items().remove(&key) {
                None if self.fault == Fault::DeleteOfAbsentFails => Err(ProviderError::new(Class::Failed, "no item")),
                _ => Ok(Applied::default()),
            };
        };
        let (key, value) = (text(desired, "key"), text(desired, "value"));
        let written = match self.fault {
            Fault::FailsToApply => return Err(ProviderError::new(Class::Failed, "no")),
            Fault::WritesAnotherValue => "another value".to_owned(),
            _ => value.clone(),
        };
        self.items().insert(key.clone(), written.clone());
        let returned = if self.fault == Fault::ReturnsAnotherValue { "another value" } else { &written };
        Ok(Applied { attributes: self.attributes(&key, returned), ..Applied::default() })
    }
}

fn text(attributes: &Attributes, name: &str) -> String {
    attributes.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The type `kv_item`.
struct Item {
    fault: Fault,
    declaration: Declaration,
}

impl Item {
    fn new(fault: Fault) -> Self {
        let doc = if fault == Fault::Undocumented { "" } else { "Key of the item." };
        let key = Attribute::required("key", Kind::String, doc);
        let value = Attribute::required("value", Kind::String, "Value of the item.");
        let value = if fault == Fault::ForgetsSecrecy { value } else { value.secret() };
        let schema = Schema::new("An item.", [key, value]);
        Self { fault, declaration: Declaration { name: "kv_item", target_kind: TargetKind::Provider, schema } }
    }
}

impl ResourceType for Item {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.get("key").and_then(Value::as_str).map(str::to_owned)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let is_wrong = match self.fault {
            Fault::AcceptsInvalid => false,
            Fault::RejectsUnknown => text(attributes, "key").is_empty(),
            _ => attributes.get("key").and_then(Value::as_str).is_some_and(str::is_empty),
        };
        let invalid = Invalid { attribute: Some("key"), message: "`key` is empty".to_owned(), help: None };
        is_wrong.then_some(invalid).into_iter().collect()
    }
}

#[async_trait]
impl Provider for Faulty {
    fn name(&self) -> &'static str {
        "kv"
    }

    fn config_schema(&self) -> Schema {
        Schema::default()
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        vec![Arc::new(Item::new(self.fault))]
    }

    async fn configure(&self, _: &Attributes, _: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Connection for Faulty {
    async fn read(&self, _: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        requests.iter().map(|request| Ok(self.observe(request))).collect()
    }

    async fn plan(&self, _: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        requests.iter().map(|request| Ok(self.propose(request))).collect()
    }

    async fn apply(
        &self,
        _: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        for (index, operation) in operations.iter().enumerate() {
            outcomes.send((index, self.perform(operation))).unwrap();
        }
    }
}

fn item(key: &str, value: &str) -> String {
    format!("[resource.kv_item.x]\nkey = \"{key}\"\nvalue = \"{value}\"\n")
}

async fn broken_law(fault: Fault) -> Option<Law> {
    let provider = Faulty::new(fault);
    let (seen, disturbed) = (provider.clone(), provider.clone());
    let case = Case::new(item("a", "hidden-first"))
        .update(item("a", "hidden-second"))
        .reject(item("", "x"), "key")
        .secret("hidden-first")
        .secret("hidden-second")
        .snapshot(move || format!("{:?}", seen.items()))
        .disturb(move || _ = disturbed.items().insert("a".to_owned(), "changed by hand".to_owned()));
    let providers: [Arc<dyn Provider>; 1] = [Arc::new(provider)];
    check(&providers, &case).await.err().map(|violation| violation.law)
}

#[tokio::test]
async fn each_fault_breaks_its_law() {
    for (fault, law) in [
        (Fault::None, None),
        (Fault::Undocumented, Some(Law::Declarations)),
        (Fault::RejectsUnknown, Some(Law::UnknownValues)),
        (Fault::AcceptsInvalid, Some(Law::Rejected)),
        (Fault::ReadWrites, Some(Law::ReadsChangeNothing)),
        (Fault::FailsToApply, Some(Law::Applied)),
        (Fault::WritesAnotherValue, Some(Law::ReadShowsPlan)),
        (Fault::ReturnsAnotherValue, Some(Law::ReadShowsPlan)),
        (Fault::NeverSettles, Some(Law::SecondPlanIsEmpty)),
        (Fault::MissesDrift, Some(Law::DriftIsDetected)),
        (Fault::ForgetsSecrecy, Some(Law::SensitiveIsHidden)),
        (Fault::ReadsOnlyByRecord, Some(Law::ImportedPlanIsEmpty)),
        (Fault::DeleteOfAbsentFails, Some(Law::Destroyed)),
    ] {
        assert_eq!(broken_law(fault).await, law, "{fault:?}");
    }
}

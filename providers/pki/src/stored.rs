//! Resource types whose objects are entries of the key store.

use std::sync::Arc;

use moorfast_engine::model::{Attributes, ReadAttributes, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError,
    ReadRequest, ResourceType,
};
use moorfast_engine::state::Record;
use serde_json::json;

use crate::attributes::{attributes, propose, with_limited};
use crate::error_codes;
use crate::store::{Entries, Entry, KeyStore};

/// A resource type whose objects are entries of the key store.
pub(crate) trait Stored: Send + Sync {
    /// Returns the declaration. The attribute `name` names the entry.
    fn declaration(&self) -> Declaration;

    /// Returns the word in the identity of an entry: `authority`.
    fn kind(&self) -> &'static str;

    /// Returns the computed attributes that an update does not change.
    fn kept(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns what becomes invalid without the secret of an entry.
    fn dependants(&self) -> &'static str;

    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Whether the certificate of an entry expires with its authority.
    fn is_limited(&self, _entry: &Entry, _entries: &Entries) -> bool {
        false
    }

    /// Returns what identifies the secret of an entry without disclosing it. `None` if the entry is of another type.
    fn secret_id(&self, entry: &Entry) -> Option<String>;

    /// Returns the attributes of an entry, except `name`. `settings` are the recorded attributes, or those of the manifest.
    fn observe(&self, entry: &Entry, entries: &Entries, settings: &Attributes) -> Result<Attributes, ProviderError>;

    /// Returns a new entry with these attributes.
    fn make(&self, desired: &Attributes, entries: &Entries) -> Result<Entry, ProviderError>;

    /// Returns the entry `before` with these attributes. It keeps its secret. By default nothing in an entry can change.
    fn change(
        &self,
        _desired: &Attributes,
        _observed: &Attributes,
        _entries: &Entries,
        before: &Entry,
    ) -> Result<Entry, ProviderError> {
        Ok(before.clone())
    }
}

/// A [`Stored`] as the engine holds it.
pub(crate) struct StoredType {
    declaration: Declaration,
    pub(crate) stored: &'static dyn Stored,
}

impl StoredType {
    pub(crate) fn of(stored: &'static dyn Stored) -> Arc<dyn ResourceType> {
        Arc::new(Self { declaration: stored.declaration(), stored })
    }
}

impl ResourceType for StoredType {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("{}/{}", self.stored.kind(), attributes.text("name")?))
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty() && name.len() <= 128 && name.chars().all(allowed)
        };
        let name = attributes.text("name").filter(|name| !is_name(name)).map(|name| {
            Invalid::new("name", format!("`{name}` is not a valid name in the key store"))
                .help("a name consists of at most 128 letters, digits, `-`, `_` and `.`")
        });
        name.into_iter().chain(self.stored.validate(attributes)).collect()
    }

    /// A renewal of an authority makes longer certificates possible.
    fn planning_needs_dependencies(&self) -> bool {
        true
    }
}

/// Reads an entry.
///
/// # Errors
/// If the state records an entry that the key store does not have, or has with another secret.
pub(crate) fn read(
    stored: &dyn Stored,
    request: &ReadRequest,
    store: &KeyStore,
    entries: &Entries,
) -> Result<Option<Observed>, ProviderError> {
    let Some(identity) = request.identity() else { return Ok(None) };
    // A record of another identity is that of the entry to replace.
    let recorded = request.recorded.as_deref().filter(|record| record.identity == identity);
    let known = recorded.and_then(|record| record.private["secret_id"].as_str());
    let lost = |how: &str| {
        let help = "restore the key store from a backup. Only if the old key is lost for good, remove it from the state with `moorfast state rm`: \
                    the next apply then makes a new one";
        let summary = format!("the key store {} {how} {identity} that the state records", store.path().display());
        ProviderError::new(Class::Failed, summary).code(error_codes::ENTRY_LOST).help(help)
    };
    match (entries.get(&identity), known) {
        (None, Some(_)) => Err(lost("does not contain the key of")),
        (None | Some(Entry::Destroyed { .. }), _) => Ok(None),
        (Some(entry), known) => {
            let id = secret_id(stored, entry, &identity)?;
            if known.is_some_and(|known| known != id) {
                return Err(lost("contains another key than that of"));
            }
            observed(stored, entry, entries, &settings(request, recorded)).map(Some)
        }
    }
}

/// Plans an entry.
pub(crate) fn plan(stored: &dyn Stored, request: &PlanRequest) -> Proposal {
    propose(request, stored.kept(), None)
}

/// Carries out an operation. The entry is on disk when this returns.
pub(crate) fn apply(stored: &dyn Stored, operation: &Operation, store: &KeyStore) -> Result<Applied, ProviderError> {
    let identity = operation.identity().unwrap_or_default();
    match &operation.action {
        OperationAction::Delete => store.update(|entries| {
            entries.destroy(&identity);
            Ok(Applied::default())
        }),
        OperationAction::Create(desired) => store.update(|entries| {
            if entries.existing(&identity).is_some() {
                let summary = format!("the key store already contains {identity}: another run made it since the plan");
                return Err(ProviderError::new(Class::Conflict, summary).help("plan again"));
            }
            let entry = stored.make(desired, entries)?;
            entries.put(&identity, entry.clone());
            applied(stored, &entry, entries, desired)
        }),
        OperationAction::Update(desired) => store.update(|entries| {
            let before = entries.existing(&identity).cloned().ok_or_else(|| {
                let summary = format!("the key store does not contain {identity} any more");
                ProviderError::new(Class::Conflict, summary).help("plan again")
            })?;
            let observed = operation.observed.as_ref().map(|observed| observed.attributes.clone()).unwrap_or_default();
            let entry = stored.change(desired, &observed, entries, &before)?;
            entries.put(&identity, entry.clone());
            applied(stored, &entry, entries, desired)
        }),
    }
}

/// Returns the record of the values that cannot be read, or those of the manifest if there is no record.
fn settings(request: &ReadRequest, recorded: Option<&Record>) -> Attributes {
    match (recorded, &request.desired) {
        (Some(record), _) => recorded_values(&record.attributes),
        (None, Some(desired)) => desired.clone(),
        (None, None) => Attributes::new(),
    }
}

fn observed(
    stored: &dyn Stored,
    entry: &Entry,
    entries: &Entries,
    settings: &Attributes,
) -> Result<Observed, ProviderError> {
    let mut found = stored.observe(entry, entries, settings)?;
    found.extend(attributes([("name", settings.get("name").cloned().unwrap_or_default())]));
    let private = with_limited(json!({ "secret_id": stored.secret_id(entry) }), stored.is_limited(entry, entries));
    Ok(Observed { attributes: found, private })
}

fn applied(
    stored: &dyn Stored,
    entry: &Entry,
    entries: &Entries,
    desired: &Attributes,
) -> Result<Applied, ProviderError> {
    let Observed { attributes, private } = observed(stored, entry, entries, desired)?;
    Ok(Applied { attributes, private, notes: Vec::new() })
}

fn secret_id(stored: &dyn Stored, entry: &Entry, identity: &str) -> Result<String, ProviderError> {
    let damaged = || ProviderError::new(Class::Failed, format!("the entry {identity} of the key store is damaged"));
    stored.secret_id(entry).ok_or_else(damaged)
}

//! The attributes and the private data of an instance.

use std::collections::BTreeMap;

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::Observed;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::fields::FieldSet;
use super::key::ObjectKey;

/// The private data of an instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PrivateData {
    /// The objects of the instance, in the order of the apply.
    #[serde(default)]
    pub(super) objects: Vec<ObjectKey>,
    /// After a reading: the fields of each object that moorfast manages.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) managed: BTreeMap<String, FieldSet>,
    /// After a reading of an instance without a record: the fields of each object that `kubectl apply` wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) of_kubectl: BTreeMap<String, FieldSet>,
    /// After a reading: the declared fields of each object that only other managers have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) of_others: BTreeMap<String, FieldSet>,
    /// The fields of each object that the manifest declares empty and that the API server dropped from the object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) dropped: BTreeMap<String, FieldSet>,
}

impl PrivateData {
    pub(super) fn read(private: &Json) -> Self {
        Self::deserialize(private).unwrap_or_default()
    }

    /// Returns the private data of an observation. Reading it takes time, so do it once for all objects of an instance.
    pub(super) fn of(observed: Option<&Observed>) -> Self {
        observed.map(|observed| Self::read(&observed.private)).unwrap_or_default()
    }

    /// Returns the fields of an object that are removed when the manifest no longer declares them.
    pub(super) fn removable(&self, key: &str) -> FieldSet {
        let sets = [&self.managed, &self.of_kubectl].into_iter().filter_map(|sets| sets.get(key).cloned());
        sets.fold(FieldSet::default(), FieldSet::union)
    }

    /// Returns the dropped fields that moorfast no longer manages: another manager has filled them.
    pub(super) fn yielded(&self, key: &str) -> FieldSet {
        let dropped = self.dropped.get(key).cloned().unwrap_or_default();
        self.managed.get(key).map(|managed| dropped.difference(managed)).unwrap_or_default()
    }

    /// Whether moorfast manages exactly the fields of the declared object.
    pub(super) fn manages_exactly(&self, key: &str, declared: &Json) -> bool {
        !self.of_others.contains_key(key)
            && self.managed.get(key).is_some_and(|managed| managed.is_declaration(declared))
    }

    pub(super) fn write(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Returns the attributes that hold these objects.
pub(super) fn attributes(is_yaml: bool, objects: Vec<(ObjectKey, Value)>) -> Attributes {
    if is_yaml {
        let by_key = objects.into_iter().map(|(key, value)| (key.to_string(), value));
        return [("objects".to_owned(), Value::Map(by_key.collect()))].into();
    }
    objects.into_iter().take(1).map(|(_, value)| ("manifest".to_owned(), value)).collect()
}

/// Returns the observation of the objects that exist, or `None` if there are none.
pub(super) fn observed(is_yaml: bool, objects: Vec<(ObjectKey, Value)>, mut private: PrivateData) -> Option<Observed> {
    if objects.is_empty() {
        return None;
    }
    private.objects = objects.iter().map(|(key, _)| key.clone()).collect();
    private.of_kubectl.retain(|_, fields| !fields.is_leaf());
    private.of_others.retain(|_, fields| !fields.is_leaf());
    private.dropped.retain(|_, fields| !fields.is_leaf());
    Some(Observed { attributes: attributes(is_yaml, objects), private: private.write() })
}

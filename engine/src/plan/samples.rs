//! Records and changes for tests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use moorfast_state::Record;
use serde_json::{Map, Value as Json};

use super::model::Change;
use crate::model::Address;
use crate::provider::Action;

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

/// Returns the record of an instance on the node `n1`. Its identity is its address.
pub(super) fn record(text: &str, dependencies: &[&str]) -> Record {
    Record {
        address: text.to_owned(),
        resource_type: address(text).resource.resource_type,
        provider: "mem".to_owned(),
        target: "n1".to_owned(),
        identity: text.to_owned(),
        attributes: Map::new(),
        dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        triggers: BTreeMap::new(),
        private: Json::Null,
        prevent_destroy: false,
        incomplete: false,
        pending: Vec::new(),
        machine: None,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// Returns the change of an instance on the node `n1`. Its identity is its address.
pub(super) fn change(text: &str, action: Action, dependencies: &[&str]) -> Change {
    Change {
        address: address(text),
        moved_from: None,
        resource_type: address(text).resource.resource_type,
        provider: "mem".to_owned(),
        target: "n1".to_owned(),
        node: None,
        identity: Some(text.to_owned()),
        action,
        reasons: Vec::new(),
        before: None,
        after: Some(Map::new()),
        dependencies: dependencies.iter().map(|d| address(d)).collect(),
        observed: None,
        objects: Vec::new(),
        consequences: Vec::new(),
        notes: Vec::new(),
    }
}

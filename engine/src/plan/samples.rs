//! Configurations, records and changes for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use moorfast_state::{Record, SealKey};
use serde_json::{Map, Value as Json};

use super::inputs::Inputs;
use super::model::{Change, PlanOptions};
use super::prior::Prior;
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::Graph;
use crate::configuration::leaving::LeavingNodes;
use crate::configuration::static_values::StaticValues;
use crate::manifest::tests::{load, render};
use crate::model::{Address, Attribute, Attributes, Kind, Recorded, Schema, Value};
use crate::provider::catalog::Catalog;
use crate::provider::{
    Action, Class, Connection, Context, Declaration, Observed, Provider, ProviderError, ResourceType, TargetKind,
};

/// The configuration of a manifest, with the type `mem_file` and the data source `mem_data`.
pub(super) struct Configuration {
    expanded: Expanded,
    graph: Graph,
    static_values: StaticValues,
    pub leaving: LeavingNodes,
    key: SealKey,
    pub options: PlanOptions,
}

impl Configuration {
    /// Returns the configuration of a manifest with the node `n1`.
    pub fn of(text: &str) -> Self {
        let text = format!("[nodes.n1]\n{text}");
        let manifest =
            load(&[("main.toml", &text)]).unwrap_or_else(|(sources, errors)| panic!("{}", render(&sources, &errors)));
        let catalog = Catalog::new(&[Arc::new(Memory)]);
        let expanded = Expanded::new(Arc::new(manifest), BTreeMap::new(), catalog, Arc::default()).unwrap();
        let mut graph = Graph::new(&expanded).unwrap();
        let static_values = StaticValues::new(&expanded, &mut graph).unwrap();
        Self {
            expanded,
            graph,
            static_values,
            leaving: LeavingNodes::default(),
            key: SealKey::from_bytes([7; 32]),
            options: PlanOptions::default(),
        }
    }

    pub fn inputs(&self) -> Inputs<'_> {
        let Self { expanded, graph, static_values, leaving, key, options } = self;
        Inputs { expanded, graph, static_values, leaving, key, options }
    }

    pub fn instance(&self, text: &str) -> &Instance {
        self.expanded.instance(&address(text)).unwrap_or_else(|| panic!("the manifest has no {text}"))
    }

    /// Returns the desired attributes of an instance as the manifest alone gives them.
    pub fn desired(&self, text: &str) -> Attributes {
        self.static_values.get(&address(text)).cloned().unwrap_or_default()
    }
}

/// Returns the prior state with these records.
pub(super) fn prior(records: impl IntoIterator<Item = Record>) -> Prior {
    let records = records.into_iter().map(|record| (address(&record.address), Recorded::from(record)));
    let mut prior = Prior::default();
    prior.records = records.collect();
    prior
}

/// Returns a file as it is observed.
pub(super) fn file(path: &str, content: &str) -> Observed {
    let attributes = [("path", path), ("content", content), ("id", "1")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), Value::from(value)));
    Observed { attributes: attributes.into(), private: Json::Null }
}

/// Returns the record of a file on the node `n1`.
pub(super) fn recorded_file(text: &str, path: &str, content: &str) -> Record {
    let attributes = [("path", path), ("content", content), ("id", "1")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), Json::from(value)));
    Record { identity: path.to_owned(), attributes: attributes.into_iter().collect(), ..record(text, &[]) }
}

/// The provider `mem`, which connects to nothing.
struct Memory;

/// A file, or a data source.
struct File(Declaration);

impl ResourceType for File {
    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.get("path").and_then(Value::as_str).map(str::to_owned)
    }

    fn planning_needs_dependencies(&self) -> bool {
        true
    }
}

#[async_trait]
impl Provider for Memory {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn config_schema(&self) -> Schema {
        Schema::default()
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        let path = Attribute::required("path", Kind::String, "Its path.");
        let content = Attribute::optional("content", Kind::String, "Its content.").or("");
        let owner = Attribute::optional("owner", Kind::String, "Its owner.").or_kept();
        let backup = Attribute::optional("backup", Kind::Bool, "Whether an old file is kept.").instruction();
        let id = Attribute::computed("id", Kind::String, "Its number.");
        let schema = Schema::new("A file.", [path, content, owner, backup, id]);
        vec![Arc::new(File(Declaration { name: "mem_file", target_kind: TargetKind::Node, schema }))]
    }

    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        let of = Attribute::required("of", Kind::String, "What it is about.");
        let schema = Schema::new("Data.", [of, Attribute::computed("value", Kind::String, "Its value.")]);
        vec![Arc::new(File(Declaration { name: "mem_data", target_kind: TargetKind::Provider, schema }))]
    }

    async fn configure(&self, _: &Attributes, _: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Err(ProviderError::new(Class::Invalid, "the tests of decisions need no connection"))
    }
}

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

/// Returns the record of an instance on the node `n1`. Its identity is its address.
pub(super) fn record(text: &str, dependencies: &[&str]) -> Record {
    Record {
        address: text.to_owned(),
        resource_type: address(text).resource.resource_type.clone(),
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
        resource_type: address(text).resource.resource_type.clone(),
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

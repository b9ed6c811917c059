//! The configuration: the manifest with its instances, their references and their graph.

pub(crate) mod evaluate;
pub(crate) mod expand;
pub(crate) mod graph;
mod instances;
pub(crate) mod leaving;
mod modules;
pub(crate) mod moves;
mod needs;
pub(crate) mod owners;
pub(crate) mod scope;
pub(crate) mod selection;
pub(crate) mod static_data;
pub(crate) mod static_sources;
pub(crate) mod static_values;
pub(crate) mod values;

pub use graph::GraphView;

//! The declaration of a resource type.

use crate::model::Schema;

/// A resource type or a data source, as its provider declares it.
#[derive(Clone, Debug)]
pub struct ResourceType {
    /// The name: `ssh_file`.
    pub name: &'static str,
    /// The kind of target that its instances have.
    pub target_kind: TargetKind,
    /// The attributes that a manifest can set, and those that the provider computes.
    pub schema: Schema,
}

/// The kind of target that the instances of a resource type have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// The node that `on` selects. `on` is required.
    Node,
    /// The cluster of the provider instance. `on` is optional and makes one instance for each node.
    Provider,
}

//! Existing objects that a new manifest shall describe.

use crate::model::Attributes;

/// What [`Connection::describe`](super::Connection::describe) looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// One object: its resource type, and its key as people write it: a path, the name of a unit.
    Object {
        /// The resource type.
        resource_type: String,
        /// The key.
        key: String,
    },
    /// The objects at a path and below it.
    Under(String),
    /// The objects of a kind in a namespace.
    Kind {
        /// The kind: `Deployment`, or `GROUP/VERSION/KIND`.
        kind: String,
        /// The namespace.
        namespace: String,
    },
}

/// An existing object, as a manifest would describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The resource type.
    pub resource_type: String,
    /// The object as messages name it: its path, or its kind and name.
    pub label: String,
    /// A relative path for a file with its content, if it has one. A table is written into a file only if this is one of YAML.
    pub file: String,
    /// The attributes to write, without those that have their default; or the reason why the object is left out.
    pub attributes: Result<Attributes, String>,
}

//! The objects of an instance that has several, such as the documents of one text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::Action;

/// One object of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The identity of the object in its target.
    pub identity: String,
    /// The name of the object in messages, and its key in the attribute that contains all objects.
    pub name: String,
    /// What is lost when the object is removed, as the rest of `also removes …`. `None` if the object contains nothing else.
    pub contents: Option<String>,
}

/// The planned change of one object of an instance that has several objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// The identity of the object in its target.
    pub identity: String,
    /// The name of the object in messages, and its key in the attribute that contains all objects.
    pub name: String,
    /// The planned action. [`Action::Forget`] means that another instance owns the object from now on.
    pub action: Action,
    /// The attributes that cannot be changed in place, as paths from the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace_paths: Vec<String>,
}

impl ObjectChange {
    /// Returns the part of `attributes` that describes this object.
    pub fn within<'a>(&self, attributes: Option<&'a Map<String, Json>>) -> Option<&'a Json> {
        attributes?.values().find_map(|value| value.get(&self.name))
    }
}

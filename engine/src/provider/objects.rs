//! The objects of an instance that stands for several, such as the documents of one text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::Action;

/// One of the objects that an instance stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its natural key within the target.
    pub identity: String,
    /// Its name for a person, and its key in the attribute that holds all objects.
    pub name: String,
    /// What is lost when it is removed, as the rest of `also removes …`; none for an object that holds nothing else.
    pub contents: Option<String>,
}

/// What a plan does with one object of an instance that stands for several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// Its natural key within the target.
    pub identity: String,
    /// Its name for a person, and its key in the attribute that holds all objects.
    pub name: String,
    /// What is done. [`Action::Forget`] means that another instance owns the object from now on.
    pub action: Action,
    /// The attributes that cannot be changed in place, as paths from the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace_paths: Vec<String>,
}

impl ObjectChange {
    /// Returns the part of `attributes` that is this object.
    pub fn within<'a>(&self, attributes: Option<&'a Map<String, Json>>) -> Option<&'a Json> {
        attributes?.values().find_map(|value| value.get(&self.name))
    }
}

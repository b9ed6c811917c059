//! Which instance owns an object.

use std::collections::HashMap;

use super::expand::Instance;
use crate::model::{Address, Diagnostic};

/// Which instance owns an object, by target and identity.
#[derive(Clone, Default)]
pub(crate) struct Owners(HashMap<(String, String), Address>);

impl Owners {
    /// Notes that `instance` owns the object, or returns the other instance that does.
    pub fn claim(&mut self, instance: &Instance, identity: String) -> Result<(), Address> {
        let owner = self.0.entry((instance.target.name().to_owned(), identity)).or_insert(instance.address.clone());
        if *owner == instance.address { Ok(()) } else { Err(owner.clone()) }
    }

    /// Returns the instance that owns the object.
    pub fn of(&self, target: &str, identity: &str) -> Option<&Address> {
        self.0.get(&(target.to_owned(), identity.to_owned()))
    }
}

/// Returns the error for two instances that are the same object.
pub(crate) fn same_object(first: &Instance, second: &Instance, identity: &str) -> Diagnostic {
    let message =
        format!("`{}` and `{}` are the same object: {identity} on {}", first.address, second.address, second.target);
    Diagnostic::error(message)
        .at(second.resource.span, "this one")
        .related(first.resource.span, "and this one")
        .help("an object can have one owner only; take one of them away")
}

//! The owners of objects.

use std::collections::HashMap;

use super::expand::Instance;
use crate::model::{Address, Diagnostic, error_codes};

/// The instance that owns each object, by target and identity.
#[derive(Clone, Default)]
pub(crate) struct Owners(HashMap<(String, String), Address>);

impl Owners {
    /// Records `instance` as the owner of the object.
    ///
    /// # Errors
    /// Returns the address of the other instance that owns it.
    pub fn claim(&mut self, instance: &Instance, identity: String) -> Result<(), Address> {
        let owner = self.0.entry((instance.target.name().to_owned(), identity)).or_insert(instance.address.clone());
        if *owner == instance.address { Ok(()) } else { Err(owner.clone()) }
    }

    /// Returns the instance that owns the object.
    pub fn of(&self, target: &str, identity: &str) -> Option<&Address> {
        self.0.get(&(target.to_owned(), identity.to_owned()))
    }
}

/// Returns the error for two instances that manage the same object.
pub(crate) fn same_object(first: &Instance, second: &Instance, identity: &str) -> Diagnostic {
    let message =
        format!("`{}` and `{}` manage the same object: {identity} on {}", first.address, second.address, second.target);
    Diagnostic::error(message)
        .code(error_codes::SAME_OBJECT)
        .at(second.resource.span, "second owner")
        .related(first.resource.span, "first owner")
        .help("an object has only one owner; remove one of the resources")
}

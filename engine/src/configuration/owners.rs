//! The owners of objects.

use std::sync::Arc;

use super::expand::Instance;
use crate::model::hash::HashMap;
use crate::model::{Address, Diagnostic, error_codes};

/// The instance that owns each object, by target and identity. Clones share the owners until one of them claims another object.
#[derive(Clone, Default)]
pub(crate) struct Owners(Arc<HashMap<String, HashMap<String, Address>>>);

impl Owners {
    /// Records `instance` as the owner of the object.
    ///
    /// # Errors
    /// Returns the address of the other instance that owns it.
    pub fn claim(&mut self, instance: &Instance, identity: String) -> Result<(), Address> {
        let target = instance.target.name();
        match self.of(target, &identity) {
            Some(owner) if *owner == instance.address => Ok(()),
            Some(owner) => Err(owner.clone()),
            None => {
                let owners = Arc::make_mut(&mut self.0).entry(target.to_owned()).or_default();
                owners.insert(identity, instance.address.clone());
                Ok(())
            }
        }
    }

    /// Returns the instance that owns the object.
    pub fn of(&self, target: &str, identity: &str) -> Option<&Address> {
        self.0.get(target)?.get(identity)
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

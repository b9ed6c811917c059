//! The readings: the objects that the targets have, before anything is decided.

use crate::model::Address;
use crate::model::hash::HashMap;
use crate::provider::{Observed, ProviderError};

/// The key of a reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadingKey {
    /// The object with the identity that the manifest declares.
    Current(Address),
    /// The object with the recorded identity, which the manifest does not declare any more.
    Former(Address),
    /// An object with another identity, which an incomplete replacement started to create.
    Pending(Address, String),
}

impl ReadingKey {
    /// Returns the address of the instance.
    pub fn address(&self) -> &Address {
        let (Self::Current(address) | Self::Former(address) | Self::Pending(address, _)) = self;
        address
    }
}

/// The result of a reading. `None` if the object does not exist.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

/// The readings of a plan. Each is taken by the decision about its instance.
#[derive(Default)]
pub(super) struct Readings(pub HashMap<ReadingKey, Reading>);

impl Readings {
    /// Takes the object out. Returns `None` if it does not exist or was not read.
    ///
    /// # Errors
    /// If the object could not be read.
    pub fn take(&mut self, key: &ReadingKey) -> Reading {
        self.0.remove(key).unwrap_or(Ok(None))
    }
}

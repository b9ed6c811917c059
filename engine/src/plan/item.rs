//! The data of an instance that the apply needs and the plan file must not contain.

use super::superseded::SupersededObject;
use crate::model::{Address, Recorded};
use crate::provider::Observed;

/// The data of one instance that the apply needs and the plan file must not contain.
#[derive(Clone, Default)]
pub(crate) struct Item {
    pub recorded: Option<Recorded>,
    pub observed: Option<Observed>,
    /// The object with the recorded identity, if the manifest now declares another identity.
    pub former: Option<Observed>,
    /// Whether `observed`, beside `former`, must be destroyed and created again to get its desired attributes.
    pub displaced: bool,
    /// The objects that earlier replacements started to create and that are not declared any more.
    pub superseded: Vec<SupersededObject>,
    pub triggers: Vec<Address>,
}

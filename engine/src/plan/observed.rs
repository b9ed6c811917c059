//! Observed objects as the plan and the state hold them.

use moorfast_state::{Digest, Record, SealKey, canonical_object};
use serde_json::{Map, Value as Json};

use crate::model::seal_attributes;
use crate::provider::Observed;

/// Returns the attributes of a record after a reading. Recorded attributes that were not read are kept.
pub(crate) fn merged_attributes(known: Option<&Record>, observed: &Observed, key: &SealKey) -> Map<String, Json> {
    let mut attributes = seal_attributes(&observed.attributes, key);
    let lost =
        known.into_iter().flat_map(|k| &k.attributes).filter(|(name, _)| !observed.attributes.contains_key(name));
    attributes.extend(lost.map(|(name, value)| (name.clone(), value.clone())));
    attributes
}

/// Returns the digest of the observed attributes.
pub(crate) fn observed_digest(observed: Option<&Observed>, key: &SealKey) -> Digest {
    sealed_digest(observed.map(|observed| seal_attributes(&observed.attributes, key)).as_ref())
}

/// Returns the digest of observed attributes that are sealed already.
pub(super) fn sealed_digest(sealed: Option<&Map<String, Json>>) -> Digest {
    match sealed {
        Some(attributes) => Digest::of(&canonical_object(attributes)),
        None => Digest::of(b"absent"),
    }
}

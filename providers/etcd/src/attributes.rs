//! Building attributes.

use moorfast_engine::model::{Attributes, Value};

/// Builds attributes.
pub(crate) fn attributes(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Attributes {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

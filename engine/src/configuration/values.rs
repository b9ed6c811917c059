//! The known attributes of instances.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{Address, Value};

/// The known attributes of each instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(HashMap<Address, Arc<Value>>);

static NO_VALUES: std::sync::LazyLock<Values> = std::sync::LazyLock::new(Values::default);

impl Values {
    /// Returns the values before any instance is evaluated.
    pub fn none() -> &'static Self {
        &NO_VALUES
    }

    /// Inserts the attributes of an instance. A sealed value becomes a retained one: only the last apply knew it.
    pub fn insert(&mut self, address: Address, attributes: BTreeMap<String, Value>) {
        let unseal = |value: Value| if value.is_sealed() { Value::Retained.sensitive() } else { value };
        let attributes = attributes.into_iter().map(|(name, value)| (name, unseal(value))).collect();
        self.0.insert(address, Arc::new(Value::Map(attributes)));
    }

    /// Sets some attributes of an instance whose attributes are known. The others keep their values.
    pub fn extend(&mut self, address: &Address, attributes: BTreeMap<String, Value>) {
        if let Some(Value::Map(known)) = self.get(address).cloned() {
            self.insert(address.clone(), known.into_iter().chain(attributes).collect());
        }
    }

    pub fn get(&self, address: &Address) -> Option<&Value> {
        self.0.get(address).map(AsRef::as_ref)
    }

    /// Returns the values of these instances only. The values are shared, because they can be many and large.
    pub fn only<'a>(&self, addresses: impl IntoIterator<Item = &'a Address>) -> Self {
        let known = addresses.into_iter().filter_map(|address| Some((address.clone(), self.0.get(address)?.clone())));
        Self(known.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_shares_its_values_and_holds_no_others() {
        let mut all = Values::default();
        let [a, b]: [Address; 2] = ["t.x[\"a\"]", "t.x[\"b\"]"].map(|address| address.parse().unwrap());
        all.insert(a.clone(), BTreeMap::from([("content".to_owned(), Value::from("large"))]));
        all.insert(b.clone(), BTreeMap::new());
        let part = all.only([&a]);
        assert!(std::ptr::eq(part.get(&a).unwrap(), all.get(&a).unwrap()));
        assert_eq!(part.get(&b), None);
    }
}

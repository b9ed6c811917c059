//! The known attributes of instances.

use crate::model::hash::HashMap;
use crate::model::{Address, Attributes, Value};

/// The known attributes of each instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(HashMap<Address, Attributes>);

static NO_VALUES: std::sync::LazyLock<Values> = std::sync::LazyLock::new(Values::default);

impl Values {
    /// Returns the values before any instance is evaluated.
    pub fn none() -> &'static Self {
        &NO_VALUES
    }

    /// Inserts the attributes of an instance. A sealed value becomes a retained one: only the last apply knew it.
    pub fn insert(&mut self, address: Address, mut attributes: Attributes) {
        if attributes.values().any(Value::is_sealed) {
            let sealed = attributes.values_mut().filter(|value| value.is_sealed());
            sealed.for_each(|value| *value = Value::Retained.sensitive());
        }
        self.0.insert(address, attributes);
    }

    /// Sets some attributes of an instance whose attributes are known. The others keep their values.
    pub fn extend(&mut self, address: &Address, attributes: Attributes) {
        if let Some(mut known) = self.get(address).cloned() {
            known.extend(attributes);
            self.insert(address.clone(), known);
        }
    }

    pub fn get(&self, address: &Address) -> Option<&Attributes> {
        self.0.get(address)
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
        all.insert(a.clone(), Attributes::from([("content".to_owned(), Value::from("large"))]));
        all.insert(b.clone(), Attributes::new());
        let part = all.only([&a]);
        assert!(std::ptr::eq(&part.get(&a).unwrap()["content"], &all.get(&a).unwrap()["content"]));
        assert_eq!(part.get(&b), None);
    }
}

//! Maps of values.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use super::Value;

/// Values by name, in the order of the names.
///
/// A plan holds the attributes of an object several times: as declared, as observed and as planned. So the clones of a map share its entries until one of them is
/// changed, and the entries are one sorted list, which takes a third of the memory of a [`BTreeMap`].
///
/// An insertion moves the entries after it. A map of many entries in any order is collected from an iterator, or made from a [`BTreeMap`].
#[derive(Clone, Default, PartialEq)]
pub struct ValueMap(Arc<Vec<(String, Value)>>);

impl ValueMap {
    /// Returns an empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the map has no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the map has an entry of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Returns the value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    /// Returns the value of this name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let place = self.place(name).ok()?;
        Some(&mut self.entries()[place].1)
    }

    /// Returns the value of this name, to change it. If there is none, inserts the one that `value` returns.
    pub fn get_or_insert_with(&mut self, name: &str, value: impl FnOnce() -> Value) -> &mut Value {
        let place = self.place(name).unwrap_or_else(|place| {
            self.entries().insert(place, (name.to_owned(), value()));
            place
        });
        &mut self.entries()[place].1
    }

    /// Inserts a value. Returns the value that had this name.
    pub fn insert(&mut self, name: String, value: Value) -> Option<Value> {
        match self.place(&name) {
            Ok(place) => Some(std::mem::replace(&mut self.entries()[place].1, value)),
            Err(place) => {
                self.entries().insert(place, (name, value));
                None
            }
        }
    }

    /// Removes the value of this name and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let place = self.place(name).ok()?;
        Some(self.entries().remove(place).1)
    }

    /// Keeps only some entries.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&String, &Value) -> bool) {
        if !self.iter().all(|(name, value)| is_kept(name, value)) {
            self.entries().retain(|(name, value)| is_kept(name, value));
        }
    }

    /// Returns the entries.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Returns the entries, to change the values.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        self.entries().iter_mut().map(|(name, value)| (name, value))
    }

    /// Returns the names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &String> + ExactSizeIterator + Clone {
        self.0.iter().map(|(name, _)| name)
    }

    /// Returns the values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// Returns the values, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// Returns the values, to change them, unless a clone shares them.
    pub(super) fn unshared(&mut self) -> impl Iterator<Item = &mut Value> {
        Arc::get_mut(&mut self.0).into_iter().flatten().map(|(_, value)| value)
    }

    /// Returns the place of the entry of this name, or the place where it would be.
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    fn entries(&mut self) -> &mut Vec<(String, Value)> {
        Arc::make_mut(&mut self.0)
    }
}

/// The entries of a [`ValueMap`].
pub type Iter<'m> = std::iter::Map<std::slice::Iter<'m, (String, Value)>, fn(&(String, Value)) -> (&String, &Value)>;

/// The entries of a [`ValueMap`], to change the values.
pub type IterMut<'m> =
    std::iter::Map<std::slice::IterMut<'m, (String, Value)>, fn(&mut (String, Value)) -> (&String, &mut Value)>;

impl Index<&str> for ValueMap {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        match self.place(name) {
            Ok(place) => &self.0[place].1,
            Err(_) => panic!("the map has no value `{name}`"),
        }
    }
}

impl FromIterator<(String, Value)> for ValueMap {
    /// Collects the entries. The last one of those with the same name is kept.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map.entries().shrink_to_fit();
        map
    }
}

impl Extend<(String, Value)> for ValueMap {
    /// Inserts the entries. The last one of those with the same name is kept.
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, entries: I) {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() {
            return;
        }
        let own = self.entries();
        own.extend(entries);
        if !own.is_sorted_by(|(one, _), (next, _)| one < next) {
            // The sort is stable. Of equal names, the last one is moved to the place of the first, which stays.
            own.sort_by(|(one, _), (other, _)| one.cmp(other));
            own.dedup_by(|later, kept| {
                let is_same = later.0 == kept.0;
                if is_same {
                    std::mem::swap(later, kept);
                }
                is_same
            });
            // Attributes are extended by values of the same names, and stay in memory.
            own.shrink_to_fit();
        }
    }
}

impl<const N: usize> From<[(String, Value); N]> for ValueMap {
    fn from(entries: [(String, Value); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl From<BTreeMap<String, Value>> for ValueMap {
    fn from(entries: BTreeMap<String, Value>) -> Self {
        entries.into_iter().collect()
    }
}

impl IntoIterator for ValueMap {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

impl<'m> IntoIterator for &'m ValueMap {
    type Item = (&'m String, &'m Value);
    type IntoIter = Iter<'m>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'m> IntoIterator for &'m mut ValueMap {
    type Item = (&'m String, &'m mut Value);
    type IntoIter = IterMut<'m>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl fmt::Debug for ValueMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_map_is_what_a_tree_with_the_same_entries_is(
            steps in prop::collection::vec(("[a-e]", 0i64..9, prop::collection::vec(("[a-e]", 0i64..9), 0..4)), 0..9),
        ) {
            let (mut map, mut tree) = (ValueMap::new(), BTreeMap::new());
            for (name, number, more) in steps {
                let (before, old) = (map.clone(), tree.clone());
                let more: Vec<_> = more.into_iter().map(|(name, number)| (name, Value::from(number))).collect();
                prop_assert_eq!(more.iter().cloned().collect::<ValueMap>(), more.iter().cloned().collect::<BTreeMap<_, _>>().into());
                match number {
                    0..5 => prop_assert_eq!(map.insert(name.clone(), number.into()), tree.insert(name.clone(), number.into())),
                    5 => prop_assert_eq!(map.remove(&name), tree.remove(&name)),
                    6 => {
                        map.retain(|known, _| *known != name);
                        tree.retain(|known, _| *known != name);
                    }
                    7 => prop_assert_eq!(map.get_or_insert_with(&name, || 7.into()), tree.entry(name.clone()).or_insert(7.into())),
                    _ => {
                        map.extend(more.clone());
                        tree.extend(more);
                    }
                }
                prop_assert!(map.iter().eq(&tree), "{map:?} {tree:?}");
                prop_assert_eq!((map.get(&name), map.contains_key(&name)), (tree.get(&name), tree.contains_key(&name)));
                prop_assert!(before.into_iter().eq(old), "a clone is changed");
            }
        }
    }
}

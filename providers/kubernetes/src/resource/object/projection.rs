//! The compared part of an object: the declared fields, and the fields that moorfast manages since an earlier apply.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::fields::FieldSet;

/// The fields that are always part of a projection, because they identify the object.
const IDENTIFYING: [&str; 2] = ["apiVersion", "kind"];

/// The compared parts of a live value.
#[derive(Clone, Debug, PartialEq)]
enum Mask {
    /// All of it.
    Whole,
    /// These fields of an object.
    Fields(BTreeMap<String, Mask>),
    /// These items of a list, by their index in the live list.
    Items(BTreeMap<usize, Mask>),
}

/// Returns the fields of `live` that `declared` has or that are in `managed`, the fields of moorfast.
///
/// Defaults of the server and fields of other managers are left out, so they are not compared. A field that moorfast manages and the manifest no longer
/// declares is included, so that it appears as a removal.
pub(crate) fn project(declared: &Json, live: &Json, managed: &FieldSet) -> Json {
    let everyones = FieldSet::everyones(live);
    // Without managedFields, nothing is known about the lists of the object.
    let declared = mask_declared(declared, live, Some(&everyones).filter(|set| !set.is_leaf()));
    let ours = mask_managed(managed, live);
    let identifying = identifying(live);
    cut(live, &join(join(declared, ours), identifying))
}

fn identifying(live: &Json) -> Mask {
    let names = ["name", "namespace"].into_iter().filter(|n| live["metadata"].get(n).is_some());
    let metadata = Mask::Fields(names.map(|n| (n.to_owned(), Mask::Whole)).collect());
    let mut fields: BTreeMap<_, _> = IDENTIFYING.iter().map(|n| ((*n).to_owned(), Mask::Whole)).collect();
    fields.insert("metadata".to_owned(), metadata);
    Mask::Fields(fields)
}

/// Returns the mask of the fields that `declared` has.
fn mask_declared(declared: &Json, live: &Json, managed: Option<&FieldSet>) -> Mask {
    let atomic = managed.is_some_and(FieldSet::is_leaf);
    match (declared, live) {
        (Json::Object(declared), Json::Object(live)) if !atomic => {
            let mentioned = declared.iter().filter(|(_, value)| !value.is_null());
            let masks = mentioned.filter_map(|(name, value)| {
                let below = managed.and_then(|m| m.field(name));
                Some((name.clone(), mask_declared(value, live.get(name)?, below)))
            });
            Mask::Fields(masks.collect())
        }
        (Json::Array(declared), Json::Array(live)) if !atomic => mask_items(declared, live, managed),
        _ => Mask::Whole,
    }
}

fn mask_items(declared: &[Json], live: &[Json], managed: Option<&FieldSet>) -> Mask {
    if managed.is_some_and(FieldSet::is_set) {
        let mentioned = live.iter().enumerate().filter(|(_, item)| declared.contains(item));
        return Mask::Items(mentioned.map(|(i, _)| (i, Mask::Whole)).collect());
    }
    let Some(keys) = managed.and_then(FieldSet::merge_keys) else {
        // A list without merge keys is atomic: its further items are compared too.
        let masks = live.iter().enumerate().map(|(i, item)| {
            let mask = declared.get(i).map_or(Mask::Whole, |d| mask_declared(d, item, None));
            (i, mask)
        });
        return Mask::Items(masks.collect());
    };
    let mut masks = BTreeMap::new();
    for item in declared {
        let same = |(i, other): &(usize, &Json)| !masks.contains_key(i) && has_same_keys(&keys, item, other);
        if let Some((i, found)) = live.iter().enumerate().find(same) {
            let below = managed.and_then(|m| m.item(i, found));
            masks.insert(i, mask_declared(item, found, below));
        }
    }
    Mask::Items(masks)
}

/// A key that the manifest leaves out is one that the server defaults: a port's protocol.
fn has_same_keys(keys: &[String], declared: &Json, live: &Json) -> bool {
    keys.iter().all(|key| declared.get(key).is_none_or(|value| live.get(key) == Some(value)))
}

/// Returns the mask of the fields in `managed`.
fn mask_managed(managed: &FieldSet, live: &Json) -> Mask {
    match live {
        Json::Object(fields) => {
            let masks = managed.fields().filter_map(|(name, below)| {
                let value = fields.get(name)?;
                Some((name.to_owned(), if below.is_leaf() { Mask::Whole } else { mask_managed(below, value) }))
            });
            Mask::Fields(masks.collect())
        }
        Json::Array(items) => {
            let masks = items.iter().enumerate().filter_map(|(i, item)| {
                let below = managed.item(i, item)?;
                Some((i, if below.is_leaf() { Mask::Whole } else { mask_managed(below, item) }))
            });
            Mask::Items(masks.collect())
        }
        _ => Mask::Whole,
    }
}

fn join(a: Mask, b: Mask) -> Mask {
    match (a, b) {
        (Mask::Fields(a), Mask::Fields(b)) => Mask::Fields(join_maps(a, b)),
        (Mask::Items(a), Mask::Items(b)) => Mask::Items(join_maps(a, b)),
        // Masks of one value have one form unless one of them takes all of it.
        _ => Mask::Whole,
    }
}

fn join_maps<K: Ord>(mut a: BTreeMap<K, Mask>, b: BTreeMap<K, Mask>) -> BTreeMap<K, Mask> {
    for (key, mask) in b {
        let joined = match a.remove(&key) {
            Some(other) => join(other, mask),
            None => mask,
        };
        a.insert(key, joined);
    }
    a
}

fn cut(live: &Json, mask: &Mask) -> Json {
    match (live, mask) {
        (Json::Object(fields), Mask::Fields(masks)) => {
            let kept = masks.iter().filter_map(|(name, mask)| Some((name.clone(), cut(fields.get(name)?, mask))));
            Json::Object(kept.collect::<Map<_, _>>())
        }
        (Json::Array(items), Mask::Items(masks)) => {
            masks.iter().filter_map(|(i, mask)| Some(cut(items.get(*i)?, mask))).collect()
        }
        (whole, _) => whole.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn project(declared: &Json, live: &Json) -> Json {
        super::project(declared, live, &FieldSet::ours(live))
    }

    fn live(mut object: Json, ours: Json, others: Json) -> Json {
        object["metadata"]["managedFields"] = json!([
            { "manager": "moorfast", "operation": "Apply", "fieldsV1": ours },
            { "manager": "kubelet", "operation": "Update", "fieldsV1": others },
        ]);
        object
    }

    #[test]
    fn projections() {
        let cases = [
            (
                "defaults and other managers' fields are left out",
                json!({"spec": {"replicas": 2}}),
                live(
                    json!({"spec": {"replicas": 3, "paused": false}, "status": {}}),
                    json!({"f:spec": {"f:replicas": {}}}),
                    json!({}),
                ),
                json!({"spec": {"replicas": 3}, "metadata": {}}),
            ),
            (
                "what we managed and no longer declare stays",
                json!({"data": {"a": "1"}}),
                live(
                    json!({"data": {"a": "1", "b": "2", "c": "3"}}),
                    json!({"f:data": {"f:a": {}, "f:b": {}}}),
                    json!({"f:data": {"f:c": {}}}),
                ),
                json!({"data": {"a": "1", "b": "2"}, "metadata": {}}),
            ),
            (
                "keyed items are found at any position, also by a defaulted key",
                json!({"ports": [{"port": 80}]}),
                live(
                    json!({"ports": [{"port": 9, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}]}),
                    json!({}),
                    json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:port": {}, "f:protocol": {}}}}),
                ),
                json!({"ports": [{"port": 80}], "metadata": {}}),
            ),
            (
                "an atomic list is compared as a whole",
                json!({"rules": [{"verbs": ["get"]}]}),
                live(json!({"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]}), json!({"f:rules": {}}), json!({})),
                json!({"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}], "metadata": {}}),
            ),
            (
                "only the declared values of a set are compared",
                json!({"metadata": {"finalizers": ["a"]}}),
                live(
                    json!({"metadata": {"finalizers": ["b", "a"]}}),
                    json!({}),
                    json!({"f:metadata": {"f:finalizers": {"v:\"a\"": {}, "v:\"b\"": {}}}}),
                ),
                json!({"metadata": {"finalizers": ["a"]}}),
            ),
            (
                "a missing field is left out",
                json!({"spec": {"a": {"b": 1}}}),
                live(json!({"spec": {}}), json!({}), json!({})),
                json!({"spec": {}, "metadata": {}}),
            ),
        ];
        for (what, declared, live, expected) in cases {
            assert_eq!(project(&declared, &live), expected, "{what}");
        }
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf =
            prop_oneof![Just(Json::Bool(true)), (0..4i64).prop_map(Json::from), "[a-c]{1,2}".prop_map(Json::from)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Json> {
        prop::collection::btree_map("[a-d]", any_json(), 0..4).prop_map(|m| {
            let mut object = Json::Object(m.into_iter().collect());
            object["metadata"] = json!({"name": "x"});
            object
        })
    }

    /// Whether `part` is `whole` with some parts left out.
    fn is_part(part: &Json, whole: &Json) -> bool {
        match (part, whole) {
            (Json::Object(p), Json::Object(w)) => p.iter().all(|(k, v)| w.get(k).is_some_and(|w| is_part(v, w))),
            (Json::Array(p), Json::Array(w)) => {
                let mut rest = w.iter();
                p.iter().all(|item| rest.any(|w| is_part(item, w)))
            }
            _ => part == whole,
        }
    }

    proptest! {
        #[test]
        fn a_projection_is_part_of_the_live_object(declared in any_object(), live in any_object()) {
            prop_assert!(is_part(&project(&declared, &live), &live));
        }

        #[test]
        fn an_object_projected_on_itself_is_unchanged(object in any_object()) {
            prop_assert_eq!(project(&object, &object), object);
        }

        #[test]
        fn a_projection_is_stable(declared in any_object(), live in any_object()) {
            let once = project(&declared, &live);
            prop_assert_eq!(project(&once, &live), once);
        }
    }
}

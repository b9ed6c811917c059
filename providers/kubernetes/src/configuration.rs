//! Comparison of configurations by value: durations, quantities and omitted zero values.

use moorfast_engine::model::parse_duration;
use serde_json::{Map, Value as Json};

/// Returns `live` in the form of `declared`: equal values as declared, and no fields that `declared` does not have.
pub(crate) fn in_declared_form(declared: &Json, live: &Json) -> Json {
    if is_equal(declared, live) {
        return declared.clone();
    }
    match (declared, live) {
        (Json::Object(declared), Json::Object(live)) => {
            let kept = declared.iter().filter_map(|(name, value)| {
                let live = live.get(name).unwrap_or(&Json::Null);
                let value = in_declared_form(value, live);
                (!value.is_null()).then(|| (name.clone(), value))
            });
            Json::Object(kept.collect::<Map<_, _>>())
        }
        _ => live.clone(),
    }
}

/// Describes the differences with both values: `maxPods: expected 220, live 110`.
pub(crate) fn differences(declared: &Json, live: &Json) -> Vec<String> {
    let found = differing(declared, live).into_iter().map(|(path, declared, live)| {
        let now = if live.is_null() { "nothing".to_owned() } else { live.to_string() };
        format!("{path}: expected {declared}, live {now}")
    });
    found.collect()
}

/// Describes the differences without values, for a sensitive configuration.
pub(crate) fn differing_paths(declared: &Json, live: &Json) -> Vec<String> {
    differing(declared, live).into_iter().map(|(path, ..)| format!("{path} differs")).collect()
}

fn differing<'a>(declared: &'a Json, live: &'a Json) -> Vec<(String, &'a Json, &'a Json)> {
    let mut found = Vec::new();
    collect(&mut Vec::new(), declared, live, &mut found);
    found
}

fn collect<'a>(
    path: &mut Vec<String>,
    declared: &'a Json,
    live: &'a Json,
    found: &mut Vec<(String, &'a Json, &'a Json)>,
) {
    if is_equal(declared, live) {
        return;
    }
    if let (Json::Object(declared), Json::Object(live)) = (declared, live) {
        for (name, value) in declared {
            path.push(name.clone());
            collect(path, value, live.get(name).unwrap_or(&Json::Null), found);
            path.pop();
        }
        return;
    }
    found.push((path.join("."), declared, live));
}

/// Whether the fields of `declared` have equal values in `live`. A missing value equals a zero value, because the API omits zero values.
fn is_equal(declared: &Json, live: &Json) -> bool {
    match (declared, live) {
        (Json::Object(declared), Json::Object(live)) => {
            declared.iter().all(|(name, value)| is_equal(value, live.get(name).unwrap_or(&Json::Null)))
        }
        (Json::Array(declared), Json::Array(live)) => {
            declared.len() == live.len() && declared.iter().zip(live).all(|(d, l)| is_equal(d, l))
        }
        (Json::String(declared), Json::String(live)) => texts_are_equal(declared, live),
        (Json::Number(a), Json::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Json::Number(n), Json::String(text)) | (Json::String(text), Json::Number(n)) => {
            texts_are_equal(&n.to_string(), text)
        }
        (declared, Json::Null) => is_zero(declared),
        (declared, live) => declared == live,
    }
}

fn is_zero(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(b) => !b,
        Json::Number(n) => n.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty() || text == "0" || parse_duration(text).is_some_and(|d| d.is_zero()),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.values().all(is_zero),
    }
}

fn texts_are_equal(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let both = |x: Option<i128>, y: Option<i128>| matches!((x, y), (Some(x), Some(y)) if x == y);
    let nanoseconds = |text| parse_duration(text).map(|d| d.as_nanos().cast_signed());
    both(nanoseconds(a), nanoseconds(b)) || both(quantity(a), quantity(b))
}

/// Parses a quantity of Kubernetes (`100m`, `1Gi`, `1e3`) and returns it in billionths.
fn quantity(text: &str) -> Option<i128> {
    const NANO: i128 = 1_000_000_000;
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => NANO,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "k" => NANO * 1_000,
        "M" => NANO * 1_000_000,
        "G" => NANO * 1_000_000_000,
        "T" => NANO * 1_000_000_000_000,
        "P" => NANO * 1_000_000_000_000_000,
        "E" => NANO * 1_000_000_000_000_000_000,
        "Ki" => NANO << 10,
        "Mi" => NANO << 20,
        "Gi" => NANO << 30,
        "Ti" => NANO << 40,
        "Pi" => NANO << 50,
        "Ei" => NANO << 60,
        exponent => NANO.checked_mul(10i128.checked_pow(exponent.strip_prefix(['e', 'E'])?.parse().ok()?)?)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let negative = whole.starts_with('-');
    let digits: i128 = format!("{}{fraction}", whole.trim_start_matches(['+', '-'])).parse().ok()?;
    let scaled = digits.checked_mul(factor)? / 10i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(if negative { -scaled } else { scaled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn values_are_compared_by_meaning() {
        let cases = [
            (json!("15m"), json!("15m0s"), true),
            (json!("1h"), json!("60m0s"), true),
            (json!("15m"), json!("16m0s"), false),
            (json!("1Gi"), json!("1024Mi"), true),
            (json!("100m"), json!("0.1"), true),
            (json!("1e3"), json!("1k"), true),
            (json!(1), json!("1"), true),
            (json!("10%"), json!("10%"), true),
            (json!("10%"), json!("5%"), false),
            (json!(0), Json::Null, true),
            (json!(false), Json::Null, true),
            (json!(true), Json::Null, false),
            (json!("0s"), Json::Null, true),
            (json!({"x509": {"clientCAFile": ""}}), Json::Null, true),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), true),
            (json!(["10.254.0.2"]), json!(["10.254.0.2", "10.254.0.3"]), false),
            (json!(220), json!(110), false),
            (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64), false),
            (json!(5), json!(5.0), true),
        ];
        for (declared, live, same) in cases {
            assert_eq!(is_equal(&declared, &live), same, "{declared} {live}");
        }
    }

    #[test]
    fn differences_are_described() {
        let declared =
            json!({"maxPods": 220, "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}}});
        let live = json!({"maxPods": 110, "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": true}}, "port": 10250});
        assert_eq!(
            differences(&declared, &live),
            ["maxPods: expected 220, live 110", "authentication.anonymous.enabled: expected false, live true"]
        );
        assert_eq!(differing_paths(&declared, &live), ["maxPods differs", "authentication.anonymous.enabled differs"]);
    }

    fn any_config() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(json!("15m")),
            Just(json!("900s")),
            Just(json!(0)),
            Just(json!(false)),
            Just(json!("1Gi")),
            (0..3i64).prop_map(Json::from)
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::Array),
                prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_differences_means_the_declared_form(declared in any_config(), live in any_config()) {
            prop_assert_eq!(differences(&declared, &live).is_empty(), in_declared_form(&declared, &live) == declared);
        }

        #[test]
        fn the_declared_form_is_stable(declared in any_config(), live in any_config()) {
            let once = in_declared_form(&declared, &live);
            prop_assert_eq!(in_declared_form(&declared, &live), once);
        }
    }
}

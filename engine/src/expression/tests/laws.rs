//! Properties of all expressions.

use proptest::prelude::*;

use super::{TestScope, expression, template};
use crate::expression::{Expr, Place};
use crate::model::{Span, Value};

/// Expressions that always depend on `LEAF`.
fn dependent() -> impl Strategy<Value = String> {
    let leaf = Just("LEAF".to_owned());
    leaf.prop_recursive(6, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| format!("[1, {e}]")),
            inner.clone().prop_map(|e| format!("{{ a = {e} }}")),
            inner.clone().prop_map(|e| format!("{{ a = {e} }}.a")),
            inner.clone().prop_map(|e| format!("[{e}][0]")),
            inner.clone().prop_map(|e| format!("jsonencode({e})")),
            inner.clone().prop_map(|e| format!("\"x ${{jsonencode({e})}}\"")),
            inner.clone().prop_map(|e| format!("({e}) == 5")),
            inner.clone().prop_map(|e| format!("(({e}) == 5 ? [1] : [2])")),
            inner.clone().prop_map(|e| format!("[for v in [{e}] : v]")),
            inner.clone().prop_map(|e| format!("[for v in [1, 2] : v if jsonencode({e}) != jsonencode(v)]")),
            inner.clone().prop_map(|e| format!("{{ for v in [{e}] : jsonencode(v) => 1 }}")),
            inner.clone().prop_map(|e| format!("concat([{e}], [2])")),
            inner.clone().prop_map(|e| format!("merge({{ k = {e} }}, {{ l = 1 }})")),
            inner.clone().prop_map(|e| format!("flatten([{e}])")),
            inner.clone().prop_map(|e| format!("sha256(jsonencode({e}))")),
            inner.clone().prop_map(|e| format!("yamlencode({{ a = {e} }})")),
            inner.clone().prop_map(|e| format!("coalesce({e}, 1)")),
            inner.clone().prop_map(|e| format!("lookup({{ a = {e} }}, \"a\")")),
            inner.clone().prop_map(|e| format!("values({{ a = {e} }})")),
            inner.clone().prop_map(|e| format!("zipmap([\"a\"], [{e}])")),
            inner.clone().prop_map(|e| format!("toset([{e}, 1])")),
            inner.clone().prop_map(|e| format!("try({e}, 1)")),
            inner.clone().prop_map(|e| format!("templatestring(\"$${{jsonencode(x)}}\", {{ x = {e} }})")),
            inner.clone().prop_map(|e| format!("[{{ q = {e} }}][*].q")),
        ]
    })
}

/// Expressions that usually fail because of an inner expression.
fn failing() -> impl Strategy<Value = String> {
    const AROUND: [&str; 20] = [
        "parseint(jsonencode(E), 10)",
        "file(jsonencode(E))",
        "regex(\"^$\", jsonencode(E))",
        "regex(jsonencode(E), \"\")",
        "(E).nope",
        "(E)[7]",
        "(E)[\"nope\"]",
        "lookup({}, jsonencode(E))",
        "tonumber(jsonencode(E))",
        "cidrhost(jsonencode(E), 1)",
        "templatestring(jsonencode(E), {})",
        "templatestring(\"$${nope}\", { x = E })",
        "templatestring(\"$${a.b}\", { a = E })",
        "yamldecode(\"[${jsonencode(E)}\")",
        "timeadd(jsonencode(E), \"1h\")",
        "format(jsonencode(E), 1)",
        "{ for v in [E, E] : jsonencode(v) => 1 }",
        "[for v in (E) : v.nope]",
        "formatdate(jsonencode(E), \"2026-01-01T00:00:00Z\")",
        "index([E], 1)",
    ];
    (dependent(), proptest::sample::select(AROUND.to_vec())).prop_map(|(inner, around)| around.replace('E', &inner))
}

fn evaluate(text: &str) -> Option<Value> {
    let expr = Expr::expression(text, Span { file: 0, start: 0, end: text.len() }).unwrap();
    expr.evaluate(&TestScope::new()).ok()
}

proptest! {
    #[test]
    fn a_result_of_a_sensitive_value_is_sensitive(text in dependent()) {
        let text = text.replace("LEAF", "var.secret");
        if let Some(value) = evaluate(&text) {
            prop_assert!(value.is_sensitive(), "{text} gives {value:?}");
        }
    }

    #[test]
    fn no_result_or_error_shows_a_sensitive_value(text in prop_oneof![dependent(), failing()], leaf in prop_oneof![Just("var.secret"), Just("var.secret_map")]) {
        let text = text.replace("LEAF", leaf);
        let shown = expression(&text);
        prop_assert!(!shown.contains("s3cr3t") && !shown.contains("hidden"), "{text}: {shown}");
    }

    #[test]
    fn a_result_of_an_unknown_value_is_unknown(text in dependent()) {
        let text = text.replace("LEAF", "var.unknown");
        if let Some(value) = evaluate(&text) {
            prop_assert!(value.is_unknown(), "{text} gives {value:?}");
        }
    }

    #[test]
    fn the_parser_never_panics(text in any::<String>()) {
        template(&text);
        expression(&text);
    }

    #[test]
    fn the_parser_never_panics_on_template_characters(text in "[a-z0-9.,:?+*/ \n\"'$%{}()\\[\\]~<=>!&|\\\\é-]{0,40}") {
        template(&format!("${{{text}}}"));
        template(&format!("%{{ if {text} }}x%{{ endif }}"));
        template(&text);
    }

    #[test]
    fn a_toml_string_is_mapped_to_its_place(text in "\\PC{0,20}", escaped in any::<bool>()) {
        let source = if escaped { toml::Value::String(text.clone()).to_string() } else { format!("'''\n{text}'''") };
        prop_assume!(escaped || !text.contains('\''));
        let place = Place::toml_string(&source, Span { file: 0, start: 0, end: source.len() }, &text);
        for (at, c) in text.char_indices() {
            let span = place.span(Some(at..at + c.len_utf8()));
            let marked = &source[span.start..span.end];
            prop_assert!(marked.contains(c) || marked.starts_with('\\'), "{marked} for {c} in {source}");
        }
    }

    #[test]
    fn a_number_survives_encoding_and_decoding(
        number in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| f.to_string()),
            (0_u64..1 << 20).prop_map(|n| (n as f64 / 1024.0).to_string()),
        ]
    ) {
        let literal = evaluate(&number);
        prop_assert!(literal.is_some(), "{number}");
        for through in ["yamldecode(yamlencode(N))", "jsondecode(jsonencode(N))", "tonumber(tostring(N))", "tonumber(\"N\")"] {
            prop_assert_eq!(evaluate(&through.replace('N', &number)), literal.clone(), "{} of {}", through, number);
        }
        let toml = evaluate("tomldecode(tomlencode({ a = N })).a".replace('N', &number).as_str());
        prop_assert!(toml.is_none() || toml == literal, "{number} through TOML: {toml:?}");
    }

    #[test]
    fn arithmetic_of_whole_numbers_is_exact_or_an_error(
        left in prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from), -9..9_i128],
        right in prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from), -9..9_i128],
    ) {
        let results = [("+", left.checked_add(right)), ("-", left.checked_sub(right)), ("*", left.checked_mul(right))];
        for (operator, exact) in results {
            if let Some(found) = evaluate(&format!("({left}) {operator} ({right})")) {
                prop_assert_eq!(found.as_i128(), exact, "{} {} {}", left, operator, right);
            }
        }
        prop_assert_eq!(evaluate(&format!("({left}) < ({right})")), Some(Value::from(left < right)));
    }

    #[test]
    fn yaml_survives_encoding_and_decoding(text in any::<String>(), other in "[a-z0-9:#'\" ~.\\-\n]{0,12}") {
        let value = serde_json::json!({ "k": [text, { other.clone(): other }] });
        let encoded = format!("yamldecode(yamlencode(jsondecode({})))", hcl::format::to_string(&hcl::Expression::from(value.to_string())).unwrap());
        prop_assert_eq!(evaluate(&encoded), Some(Value::from(value)), "{}", encoded);
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for depth in [30, 63, 64, 500, 100_000] {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("-", ""),
            ("\"${", "}\""),
            ("upper(", ")"),
            ("{ a = ", "}"),
            ("1 + ", ""),
            ("true ? 1 : ", ""),
            ("[for x in ", " : x]"),
        ] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            expression(&text);
            template(&format!("${{{text}}}"));
        }
        template(&format!("{}x{}", "%{ if true }".repeat(depth), "%{ endif }".repeat(depth)));
        expression(&format!("var.map{}", ".a".repeat(depth)));
        expression(&format!("var.list{}", "[*]".repeat(depth.min(5000))));
    }
}

#[test]
fn manifests_and_expressions_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<crate::manifest::Manifest>();
    check::<Expr>();
}

//! Tests of expressions as tables of inputs and results.

mod functions;
mod language;
mod laws;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Expr, Files, Place, Reference, Scope, Unresolved};
use crate::model::{Span, Value};

/// A scope with values of every kind.
pub(super) struct TestScope {
    files: Files,
}

impl TestScope {
    pub(super) fn new() -> Self {
        Self { files: Files { root: "src/expression/tests/files".into(), ..Files::default() } }
    }
}

impl Scope for TestScope {
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        let variables: BTreeMap<&str, Value> = [
            ("name", Value::from("gpu")),
            ("count", Value::from(3_i64)),
            ("on", Value::from(true)),
            ("none", Value::Null),
            ("list", Value::from(vec!["a", "b", "c"])),
            ("map", parse_json(r#"{"x": 1, "y": {"z": [10, 20]}}"#)),
            ("users", parse_json(r#"[{"name": "ann", "groups": ["g1"]}, {"name": "bob", "groups": ["g1", "g2"]}]"#)),
            ("unknown", Value::Unknown),
            ("retained", Value::Retained),
            ("secret", Value::from("s3cr3t").sensitive()),
            ("secret_map", parse_json(r#"{"hidden": "s3cr3t"}"#).sensitive()),
            ("secret_unknown", Value::Unknown.sensitive()),
            (
                "partly",
                Value::Map([("known".to_owned(), Value::from("k")), ("unknown".to_owned(), Value::Unknown)].into()),
            ),
            (
                "partly_secret",
                Value::Map(
                    [("open".to_owned(), Value::from("o")), ("hidden".to_owned(), Value::from("s3cr3t").sensitive())]
                        .into(),
                ),
            ),
        ]
        .into();
        let value = match reference {
            Reference::Variable(name) => {
                let value = variables.get(name.as_str()).cloned();
                value.ok_or_else(|| Unresolved::unknown("variable", name, variables.keys().copied()))
            }
            Reference::Node => Ok(parse_json(r#"{"name": "gpu01", "address": "10.0.0.1", "roles": ["worker"]}"#)),
            Reference::Resource { key: None, any: false, .. } => Ok(parse_json(r#"{"path": "/etc/motd"}"#)),
            Reference::Resource { key: Some(key), .. } => {
                Ok(Value::Map([("path".to_owned(), Value::from(format!("/{key}")))].into()))
            }
            Reference::Resource { any: true, .. } => Ok(parse_json(r#"{"gpu01": {"path": "/any"}}"#)),
            other => Err(Unresolved::new(format!("{other:?} is not in the test"))),
        };
        value.map(Arc::new)
    }

    fn files(&self) -> &Files {
        &self.files
    }
}

fn parse_json(text: &str) -> Value {
    Value::from(serde_json::from_str::<serde_json::Value>(text).unwrap())
}

/// Evaluates the text as a template. Returns the debug form of the value, or the errors.
pub(super) fn template(text: &str) -> String {
    let span = Span { file: 0, start: 0, end: text.len() };
    match Expr::template(text, Place::verbatim(span)) {
        Ok(expr) => shown(text, &expr),
        Err(error) => render(text, &error),
    }
}

/// Evaluates the text as an expression.
pub(super) fn expression(text: &str) -> String {
    let span = Span { file: 0, start: 0, end: text.len() };
    match Expr::expression(text, span) {
        Ok(expr) => shown(text, &expr),
        Err(error) => render(text, &error),
    }
}

fn shown(text: &str, expr: &Expr) -> String {
    match expr.evaluate(&TestScope::new()) {
        Ok(value) => format!("{value:?}"),
        Err(errors) => errors.iter().map(|error| render(text, error)).collect::<Vec<_>>().join("; "),
    }
}

/// Renders an error as `summary at «marked text»: label (help)`.
fn render(text: &str, error: &crate::model::Diagnostic) -> String {
    let mut out = error.summary.clone();
    if let Some((span, label)) = &error.at {
        out += &format!(" at «{}»", &text[span.start..span.end]);
        if !label.is_empty() {
            out += &format!(": {label}");
        }
    }
    if let Some(help) = &error.help {
        out += &format!(" ({help})");
    }
    out
}

/// Compares each result with the expected one.
pub(super) fn compare(cases: &[(&str, &str)], evaluate: fn(&str) -> String) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, expected)| (text, expected, evaluate(text)))
        .filter(|(_, expected, found)| *expected != found)
        .map(|(text, expected, found)| format!("{text}\n  expected {expected}\n  found    {found}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

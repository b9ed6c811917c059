//! Tests of manifests and values against a schema.

use crate::manifest::tests::{load, render};
use crate::manifest::{VariableType, check_attributes};
use crate::model::{Attribute, Attributes, Kind, Schema, Value, conform};

fn schema() -> Schema {
    let nested = vec![
        Attribute::required("name", Kind::String, "A name."),
        Attribute::optional("port", Kind::Integer, "A port.").or(80_i64),
        Attribute::optional("token", Kind::String, "A token.").secret(),
    ];
    Schema::new(
        "A thing.",
        [
            Attribute::required("path", Kind::String, "Where."),
            Attribute::optional("content", Kind::String, "What."),
            Attribute::optional("mode", Kind::Mode, "Permissions.").or("0644"),
            Attribute::optional("enabled", Kind::Bool, "Is it?"),
            Attribute::optional("wait", Kind::Duration, "How long."),
            Attribute::optional("state", Kind::OneOf(&["started", "stopped"]), "Which."),
            Attribute::optional("ports", Kind::list(Kind::Integer), "Ports."),
            Attribute::optional("labels", Kind::map(Kind::String), "Labels."),
            Attribute::optional("target", Kind::Object(nested.clone()), "A target."),
            Attribute::optional("targets", Kind::list(Kind::Object(nested)), "Targets."),
            Attribute::optional("secret", Kind::String, "A secret.").secret(),
            Attribute::optional("any", Kind::Any, "Anything."),
            Attribute::computed("size", Kind::Integer, "Bytes."),
        ],
    )
}

#[test]
fn literals_are_checked_before_expressions_are_evaluated() {
    let text = r#"
[locals]
x = 1
[resource.t.a]
contnet = "x"
mode = "rw"
enabled = "maybe"
wait = "soon"
state = "strated"
ports = [1, "2", "x", "${local.x}", "p${local.x}"]
labels = { a = 1, b = [1] }
target = { nam = "a", port = 1.5 }
targets = [{ name = "a" }, { prot = 1, name = "b" }, 5]
size = 5
any = { a = [1, { b = 2 }] }
secret = { a = 1 }
[resource.t.b]
path = 5
mode = "${local.x}"
enabled = "true"
target = "${local.x}"
labels = "a${local.x}"
"#;
    let manifest =
        load(&[("main.toml", text)]).unwrap_or_else(|(sources, errors)| panic!("{}", render(&sources, &errors)));
    let problems: Vec<_> = manifest
        .resources
        .values()
        .flat_map(|resource| {
            check_attributes(&schema(), &resource.address.to_string(), resource.span, &resource.attributes)
        })
        .collect();
    insta::assert_snapshot!(render(&manifest.sources, &problems));
}

fn conformed(json: &str) -> String {
    let Value::Map(attributes) = Value::from(serde_json::from_str::<serde_json::Value>(json).unwrap()) else {
        panic!("{json}")
    };
    match conform(&schema(), attributes) {
        Ok(attributes) => format!("{attributes:?}"),
        Err(errors) => {
            errors.into_iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn values_are_converted_to_the_types_of_the_schema() {
    let cases = [
        (r#"{"path": "/a"}"#, r#"{"mode": "0644", "path": "/a"}"#),
        (
            r#"{"path": 5, "mode": "755", "enabled": "true", "ports": ["1", 2]}"#,
            r#"{"enabled": true, "mode": "0755", "path": "5", "ports": [1, 2]}"#,
        ),
        (r#"{"path": "/a", "content": null}"#, r#"{"mode": "0644", "path": "/a"}"#),
        (r#"{"path": "/a", "secret": "s3cr3t"}"#, r#"{"mode": "0644", "path": "/a", "secret": (sensitive)}"#),
        (
            r#"{"path": "/a", "target": {"name": "n", "token": "t"}}"#,
            r#"{"mode": "0644", "path": "/a", "target": {"name": "n", "port": 80, "token": (sensitive)}}"#,
        ),
        (r#"{"path": "/a", "labels": {"x": 1}}"#, r#"{"labels": {"x": "1"}, "mode": "0644", "path": "/a"}"#),
        (r#"{"path": "/a", "secret": ["s3cr3t"]}"#, "secret: must be a string"),
        (r#"{}"#, "path: missing required attribute"),
        (r#"{"path": "/a", "mode": 420}"#, "mode: must be a file mode in octal, as the string \"0644\""),
        (
            r#"{"path": "/a", "size": 1, "contnt": 1}"#,
            "size: is computed by the provider and cannot be set; contnt: unknown attribute; did you mean `content`?",
        ),
        (
            r#"{"path": [], "wait": "x", "state": "strated"}"#,
            "path: must be a string, not a list; wait: must be a duration such as 90s, 15m or 24h, not `x`; state: must be one of `started` or `stopped`, not `strated`; did you mean `started`?",
        ),
        (
            r#"{"path": "/a", "targets": [{"name": "n"}, {"port": 1}, 5], "ports": [1.5]}"#,
            "ports[0]: must be a whole number, not a fraction; targets[1].name: missing required attribute; targets[2]: must be a table, not a number",
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(conformed(json), expected, "{json}");
    }
}

#[test]
fn unknown_and_sensitive_values_conform_and_keep_their_marks() {
    let attributes: Attributes = [
        ("path".to_owned(), Value::Unknown),
        ("ports".to_owned(), Value::List(vec![Value::Retained, Value::from("1")])),
        ("content".to_owned(), Value::from(5_i64).sensitive()),
        ("secret".to_owned(), Value::Unknown),
    ]
    .into();
    let conformed = conform(&schema(), attributes).unwrap();
    let expected = r#"{"content": (sensitive), "mode": "0644", "path": (known after apply), "ports": [(as applied before), 1], "secret": (sensitive)}"#;
    assert_eq!(format!("{conformed:?}"), expected);
    assert_eq!(conformed["content"].as_str(), Some("5"));
    let attributes: Attributes =
        [("path".to_owned(), Value::from("a")), ("state".to_owned(), Value::from("s3cr3t").sensitive())].into();
    let errors = conform(&schema(), attributes).unwrap_err();
    assert_eq!(errors, [("state".to_owned(), "must be one of `started` or `stopped`".to_owned())]);
    let names = Value::Map([("s3cr3t".to_owned(), Value::List(Vec::new()))].into()).sensitive();
    let attributes: Attributes = [("path".to_owned(), Value::from("a")), ("labels".to_owned(), names.clone())].into();
    let errors = conform(&schema(), attributes).unwrap_err();
    let expected = "must be a map of strings; what is invalid inside it is not shown, because it is sensitive";
    assert_eq!(errors, [("labels".to_owned(), expected.to_owned())]);
    let error = "object({ inputs = map(string) })".parse::<VariableType>().unwrap();
    let error = error.convert(Value::Map([("inputs".to_owned(), names)].into())).unwrap_err();
    assert_eq!(error, "`inputs`: must be of type map(string)");
}

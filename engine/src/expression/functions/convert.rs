//! Functions on types, errors and sensitivity.

use std::collections::BTreeMap;

use super::{Body, Family, Function, Lazy};
use crate::model::Value;
use crate::model::convert::{to_bool, to_text};
use crate::model::number::{NumberError, parse_number};

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function { name, family: Family::Conversion, parameters, doc, body };
    vec![
        function(
            "can",
            &["expression"],
            "Whether the expression can be evaluated without an error.",
            Body::Lazy(Lazy::Can),
        ),
        function(
            "issensitive",
            &["value"],
            "Whether the value is sensitive.",
            Body::Raw(|a| Ok(Value::from(a.value(0).is_sensitive()))),
        ),
        function(
            "nonsensitive",
            &["value"],
            "The value without its sensitive mark. Use it only for values that are not secret.",
            Body::Raw(|a| Ok(a.value(0).reveal_deep())),
        ),
        function(
            "sensitive",
            &["value"],
            "The value marked as sensitive, so that it is never shown or stored.",
            Body::Raw(|a| Ok(a.value(0).clone().sensitive())),
        ),
        function(
            "tobool",
            &["value"],
            "The value as a bool. The strings `true` and `false` are converted.",
            Body::Plain(|a| match a.value(0) {
                Value::Null => Ok(Value::Null),
                value => to_bool(value).map(Value::Bool).ok_or_else(|| a.mismatch(0, "true or false")),
            }),
        ),
        function(
            "tolist",
            &["value"],
            "The list unchanged, for compatibility with Terraform.",
            Body::Outer(|a| Ok(Value::List(a.list(0)?.to_vec()))),
        ),
        function(
            "tomap",
            &["value"],
            "The map unchanged, for compatibility with Terraform.",
            Body::Outer(|a| Ok(Value::Map(a.map(0)?.clone()))),
        ),
        function(
            "tonumber",
            &["value"],
            "The value as a number. A string that contains a number is converted.",
            Body::Plain(|a| match a.value(0) {
                Value::Null => Ok(Value::Null),
                Value::String(text) if parse_number(text) == Err(NumberError::NotANumber) => {
                    Err(a.mismatch(0, "a number or a string that contains a number"))
                }
                _ => a.number(0).map(Value::Number),
            }),
        ),
        function(
            "tostring",
            &["value"],
            "The value (a string, number or bool) as a string.",
            Body::Plain(|a| match a.value(0) {
                Value::Null => Ok(Value::Null),
                value => to_text(value).map(Value::String).ok_or_else(|| a.mismatch(0, "a string, a number or a bool")),
            }),
        ),
        function(
            "try",
            &["expressions..."],
            "The value of the first expression that can be evaluated without an error.",
            Body::Lazy(Lazy::Try),
        ),
        function(
            "type",
            &["value"],
            "The type of the value as a string, for use in the console.",
            Body::Raw(|a| Ok(Value::from(type_text(a.value(0))))),
        ),
    ]
}

fn type_text(value: &Value) -> String {
    match value.reveal() {
        Value::List(items) => {
            let types: Vec<String> = items.iter().map(type_text).collect();
            match types.first() {
                Some(first) if types.iter().all(|other| other == first) => format!("list({first})"),
                _ => format!("tuple([{}])", types.join(", ")),
            }
        }
        Value::Map(map) => {
            let members: BTreeMap<&str, String> =
                map.iter().map(|(key, value)| (key.as_str(), type_text(value))).collect();
            let members: Vec<String> = members.into_iter().map(|(key, kind)| format!("{key} = {kind}")).collect();
            format!("object({{{}}})", members.join(", "))
        }
        other => other.type_name().to_owned(),
    }
}

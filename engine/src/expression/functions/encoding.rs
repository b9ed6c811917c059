//! JSON, YAML, TOML, CSV, base64 and URLs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Arguments, Body, Family, Fault, Function, open, quoting, yaml};
use crate::Value;

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Encoding,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function("base64decode", &["text"], "The text whose bytes are this base64.", |a| {
            let bytes = STANDARD.decode(a.text(0)?.trim()).map_err(|_| open("this is no base64"))?;
            String::from_utf8(bytes).map(Value::from).map_err(|_| open("the decoded bytes are not UTF-8 text"))
        }),
        function("base64encode", &["text"], "The bytes of the text in base64.", |a| {
            Ok(Value::from(STANDARD.encode(a.text(0)?)))
        }),
        function(
            "csvdecode",
            &["text"],
            "The list of the lines of the CSV text, each a map by the names in its first line.",
            csvdecode,
        ),
        function("jsondecode", &["text"], "The value that the JSON text is.", |a| {
            let json: serde_json::Value =
                serde_json::from_str(&a.text(0)?).map_err(|error| quoting(format!("this is no JSON: {error}")))?;
            Ok(Value::from(json))
        }),
        function("jsonencode", &["value"], "The value as JSON text, its keys sorted.", |a| {
            to_json_text(a.value(0)).map(Value::from)
        }),
        function("tomldecode", &["text"], "The value that the TOML text is.", |a| {
            let table: toml::Table = a
                .text(0)?
                .parse()
                .map_err(|error: toml::de::Error| quoting(format!("this is no TOML: {}", error.message())))?;
            let json = serde_json::to_value(table).map_err(|error| quoting(error.to_string()))?;
            Ok(Value::from(json))
        }),
        function("tomlencode", &["map"], "The map as TOML text.", |a| {
            a.map(0)?;
            let json = a.value(0).to_json().map(without_nulls);
            toml::to_string(&json)
                .map(Value::from)
                .map_err(|error| quoting(format!("TOML can't hold this value: {error}")))
        }),
        function("urlencode", &["text"], "The text as it is written in a URL.", |a| {
            let text = a.text(0)?;
            let encoded = text.bytes().map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                b' ' => "+".to_owned(),
                other => format!("%{other:02X}"),
            });
            Ok(Value::from(encoded.collect::<String>()))
        }),
        function("yamldecode", &["text"], "The value that the YAML text is.", |a| yaml::decode(&a.text(0)?)),
        function("yamlencode", &["value"], "The value as YAML text in block style, its keys sorted.", |a| {
            yaml::encode(a.value(0)).map(Value::from)
        }),
    ]
}

/// The JSON text of a value; keys are in order because maps are.
pub(super) fn to_json_text(value: &Value) -> Result<String, Fault> {
    let json = value.to_json().ok_or_else(|| open("this value can't be encoded"))?;
    serde_json::to_string(&json).map_err(|error| quoting(error.to_string()))
}

/// TOML has no null: what is null is as if it were not written.
fn without_nulls(json: serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        serde_json::Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn csvdecode(a: &Arguments) -> Result<Value, Fault> {
    let mut records = csv_records(&a.text(0)?)?.into_iter();
    let names = records.next().ok_or_else(|| open("the CSV text has no line of names"))?;
    let rows = records.map(|record| {
        if record.len() != names.len() {
            return Err(quoting(format!(
                "a line of the CSV text has {} fields instead of {}",
                record.len(),
                names.len()
            )));
        }
        Ok(Value::Map(names.iter().cloned().zip(record.into_iter().map(Value::from)).collect()))
    });
    rows.collect::<Result<Vec<_>, _>>().map(Value::List)
}

/// The records of a CSV text (RFC 4180); empty lines are none.
fn csv_records(text: &str) -> Result<Vec<Vec<String>>, Fault> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', true) => quoted = false,
            ('"', false) if field.is_empty() => quoted = true,
            (',', false) => record.push(std::mem::take(&mut field)),
            ('\r', false) if chars.peek() == Some(&'\n') => {}
            ('\n', false) => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            (other, _) => field.push(other),
        }
    }
    if quoted {
        return Err(open("a quoted field of the CSV text is not closed"));
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    records.retain(|record| record.iter().any(|field| !field.is_empty()));
    Ok(records)
}

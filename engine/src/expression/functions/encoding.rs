//! Functions on encodings: JSON, YAML, TOML, CSV, base64 and URLs.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::text_encoding::Encoding;
use super::{Arguments, Body, CallError, Family, Function, plain_error, quoting_error, yaml};
use crate::expression::TextFormat;
use crate::model::Value;
use crate::model::diagnostic::quoted_list;

/// The maximum size of a decompressed text in bytes.
const MAX_DECOMPRESSED: u64 = 16 << 20;

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Encoding,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function("base64decode", &["text"], "The base64 string decoded to text.", |a| {
            let bytes = STANDARD.decode(a.text(0)?.trim()).map_err(|_| plain_error("this is not base64"))?;
            String::from_utf8(bytes).map(Value::from).map_err(|_| plain_error("the decoded bytes are not UTF-8 text"))
        }),
        function("base64gunzip", &["text"], "The base64 string decoded and decompressed with gzip to text.", |a| {
            let bytes = STANDARD.decode(a.text(0)?.trim()).map_err(|_| plain_error("this is not base64"))?;
            let mut text = String::new();
            let read = GzDecoder::new(bytes.as_slice()).take(MAX_DECOMPRESSED + 1).read_to_string(&mut text);
            match read {
                Ok(length) if length as u64 > MAX_DECOMPRESSED => {
                    Err(plain_error(format!("the decompressed text is larger than {} MiB", MAX_DECOMPRESSED >> 20)))
                }
                Ok(_) => Ok(Value::from(text)),
                Err(error) => Err(plain_error(format!("the bytes are not a compressed UTF-8 text: {error}"))),
            }
        }),
        function("base64gzip", &["text"], "The text compressed with gzip and encoded in base64.", |a| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let compressed = encoder.write_all(a.text(0)?.as_bytes()).and_then(|()| encoder.finish());
            compressed.map(|bytes| Value::from(STANDARD.encode(bytes))).map_err(|error| plain_error(error.to_string()))
        }),
        function("base64encode", &["text"], "The text encoded in base64.", |a| {
            Ok(Value::from(STANDARD.encode(a.text(0)?)))
        }),
        function(
            "csvdecode",
            &["text"],
            "The lines of the CSV text as a list of maps. The header line contains the keys.",
            csvdecode,
        ),
        function("jsondecode", &["text"], "The value of the JSON text.", |a| {
            TextFormat::Json.decode(&a.text(0)?).map_err(|error| quoting_error(error.to_string()))
        }),
        function("jsonencode", &["value"], "The value as JSON text with sorted keys.", |a| {
            to_json_text(a.value(0)).map(Value::from)
        }),
        function(
            "textdecodebase64",
            &["text", "encoding"],
            "The base64 string decoded to text from the encoding, one of those of `textencodebase64`.",
            |a| {
                let bytes = STANDARD.decode(a.text(0)?.trim()).map_err(|_| plain_error("this is not base64"))?;
                let encoding = encoding(a)?;
                encoding
                    .decode(&bytes)
                    .map(Value::from)
                    .ok_or_else(|| quoting_error(format!("the bytes are not {encoding:?}")))
            },
        ),
        function(
            "textencodebase64",
            &["text", "encoding"],
            "The text in the encoding (`UTF-8`, `UTF-16LE`, `UTF-16BE`, `US-ASCII` or `ISO-8859-1`), encoded in base64.",
            |a| {
                let (text, encoding) = (a.text(0)?, encoding(a)?);
                let bytes = encoding.encode(&text);
                let bytes = bytes.ok_or_else(|| quoting_error(format!("{encoding:?} cannot represent this text")))?;
                Ok(Value::from(STANDARD.encode(bytes)))
            },
        ),
        function("tomldecode", &["text"], "The value of the TOML text.", |a| {
            TextFormat::Toml.decode(&a.text(0)?).map_err(|error| quoting_error(error.message))
        }),
        function("tomlencode", &["map"], "The map as TOML text.", |a| {
            a.map(0)?;
            let json = a.value(0).to_json().map(without_nulls);
            toml::to_string(&json)
                .map(Value::from)
                .map_err(|error| quoting_error(format!("TOML cannot represent this value: {error}")))
        }),
        function("urlencode", &["text"], "The text with URL encoding.", |a| {
            let text = a.text(0)?;
            let encoded = text.bytes().map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                b' ' => "+".to_owned(),
                other => format!("%{other:02X}"),
            });
            Ok(Value::from(encoded.collect::<String>()))
        }),
        function(
            "yamldecode",
            &["text"],
            "The value of the YAML text, parsed as kubectl does (YAML 1.1: `0400` is 256, `yes` is true).",
            |a| yaml::decode(&a.text(0)?),
        ),
        function("yamlencode", &["value"], "The value as YAML text in block style with sorted keys.", |a| {
            yaml::encode(a.value(0)).map(Value::from)
        }),
    ]
}

fn encoding(a: &Arguments) -> Result<Encoding, CallError> {
    let name = a.text(1)?;
    Encoding::named(&name).ok_or_else(|| {
        let names = Encoding::ALL.map(|(name, _)| name);
        quoting_error(format!("unknown encoding `{name}`: the encodings are {}", quoted_list(&names)))
    })
}

/// Returns the JSON text of a value with sorted keys.
pub(super) fn to_json_text(value: &Value) -> Result<String, CallError> {
    let json = value.to_json().ok_or_else(|| plain_error("this value cannot be encoded"))?;
    serde_json::to_string(&json).map_err(|error| quoting_error(error.to_string()))
}

/// Removes null members, because TOML has no null.
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

fn csvdecode(a: &Arguments) -> Result<Value, CallError> {
    let mut records = csv_records(&a.text(0)?)?.into_iter();
    let names = records.next().ok_or_else(|| plain_error("the CSV text has no header line"))?;
    let rows = records.map(|record| {
        if record.len() != names.len() {
            return Err(quoting_error(format!(
                "a line of the CSV text has {} fields, the header line has {}",
                record.len(),
                names.len()
            )));
        }
        Ok(Value::Map(names.iter().cloned().zip(record.into_iter().map(Value::from)).collect()))
    });
    rows.collect::<Result<Vec<_>, _>>().map(Value::List)
}

/// Returns the records of a CSV text (RFC 4180). Empty lines are skipped.
fn csv_records(text: &str) -> Result<Vec<Vec<String>>, CallError> {
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
        return Err(plain_error("the CSV text has a quoted field that is not closed"));
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    records.retain(|record| record.iter().any(|field| !field.is_empty()));
    Ok(records)
}

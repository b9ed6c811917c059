//! The function `kubernetes_documents`, which makes elements of `for_each` of Kubernetes manifests.

use super::{Arguments, Body, CallError, Family, Function, filesystem, plain_error, quoting_error};
use crate::model::value::Secrecy;
use crate::model::{ObjectDocument, Value, object_documents, objects_by_key};

pub(super) fn functions() -> Vec<Function> {
    vec![Function {
        name: "kubernetes_documents",
        family: Family::Encoding,
        parameters: &["files"],
        doc: "The objects of Kubernetes manifests in YAML, as a map from `Kind/namespace/name` (`Kind/name` without a namespace) to the object, for `for_each`. \
              `files` is a list of paths relative to the manifest (`fileset(\".\", \"apps/*.yaml\")`), a map from names to texts, or one text. \
              Two objects of one identity are an error, and so is a result without objects.",
        // A document is sensitive if its text is. Its kind, namespace and name are not: they are part of its address.
        body: Body::Outer(documents),
    }]
}

/// A text of manifests, and its name in messages.
struct Source<'a> {
    name: &'a str,
    text: String,
    secrecy: Secrecy,
}

fn documents(a: &Arguments) -> Result<Value, CallError> {
    if a.value(0).is_unknown() {
        return Ok(Value::Unknown);
    }
    if a.value(0).is_retained() {
        return Ok(Value::Retained);
    }
    let mut found = Vec::new();
    for Source { name, text, secrecy } in sources(a)? {
        let documents = object_documents(&text).map_err(|error| quoting_error(format!("{name}, {error}")))?;
        found.extend(documents.into_iter().map(|document| ObjectDocument {
            object: document.value.with(&secrecy),
            place: format!("{name}, line {}", document.line),
        }));
    }
    match objects_by_key(found).map_err(quoting_error)? {
        objects if objects.is_empty() => Err(plain_error("`files` of `kubernetes_documents` contains no objects")),
        objects => Ok(Value::Map(objects)),
    }
}

fn sources<'a>(a: &'a Arguments) -> Result<Vec<Source<'a>>, CallError> {
    let of_text = |name, value: &Value| {
        let text = value.as_str().ok_or_else(|| a.mismatch(0, "a list of paths, a map of texts or a text"))?;
        Ok(Source { name, text: text.to_owned(), secrecy: value.secrecy() })
    };
    let of_path = |value: &'a Value| {
        let path = value.as_str().ok_or_else(|| a.mismatch(0, "a list of paths, a map of texts or a text"))?;
        Ok(Source { name: path, text: filesystem::read_text(a.files, path)?, secrecy: value.secrecy() })
    };
    match a.value(0) {
        Value::List(paths) => paths.iter().map(of_path).collect(),
        Value::Map(texts) => texts.iter().map(|(name, text)| of_text(name, text)).collect(),
        text => Ok(vec![of_text("the text", text)?]),
    }
}

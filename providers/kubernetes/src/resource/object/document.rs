//! The objects that a manifest declares, as a table or as YAML documents.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::model::{Attributes, ReadAttributes, Value, ValueMap, YamlDocument, object_documents};
use moorfast_engine::provider::Redaction;
use serde_json::Value as Json;

use crate::object_reader::is_secret;

use super::fields::FieldSet;
use super::ignored::overlay_observed;
use super::key::ObjectKey;

/// The annotation in which kubectl stores the whole object, including the data of a Secret.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// The identification of the object.
    pub(crate) key: ObjectKey,
    /// The declared fields, with marks of sensitive and unknown values.
    pub(crate) declared: Value,
}

/// The objects that an instance declares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Declared {
    /// One object, from `manifest`.
    Manifest(Box<Document>),
    /// Any number of objects, from `yaml`.
    Yaml(Vec<Document>),
    /// The keys of the objects are not known yet.
    Unknown,
}

impl Declared {
    /// Reads the objects that `attributes` declare.
    ///
    /// # Errors
    /// If they are not valid: the attribute, and the reason in one line.
    pub(crate) fn read(attributes: &Attributes) -> Result<Self, (&'static str, String)> {
        let present = |name: &str| attributes.get(name).filter(|v| !v.is_null());
        match (present("manifest"), present("yaml")) {
            (Some(_), Some(_)) => Err(("yaml", "both `manifest` and `yaml` are set; keep one of them".to_owned())),
            (None, None) => Err(("manifest", "neither `manifest` nor `yaml` is set".to_owned())),
            (Some(manifest), None) => match Document::new(manifest).map_err(|e| ("manifest", e))? {
                Some(document) => Ok(Declared::Manifest(Box::new(document))),
                None => Ok(Declared::Unknown),
            },
            (None, Some(_)) if attributes.is_unknown_or_retained("yaml") => Ok(Declared::Unknown),
            (None, Some(yaml)) => {
                let mut documents = documents(yaml).map_err(|e| ("yaml", e))?;
                for document in &mut documents {
                    overlay_observed(&document.key, &mut document.declared, attributes);
                }
                Ok(Declared::Yaml(documents))
            }
        }
    }

    /// Returns the objects; empty while they are unknown.
    pub(crate) fn documents(&self) -> &[Document] {
        match self {
            Declared::Manifest(document) => std::slice::from_ref(document),
            Declared::Yaml(documents) => documents,
            Declared::Unknown => &[],
        }
    }
}

fn documents(yaml: &Value) -> Result<Vec<Document>, String> {
    let text = yaml.as_str().ok_or("`yaml` is not a text")?;
    let secret = yaml.is_sensitive();
    let parsed = object_documents(text).map_err(|e| match secret {
        true => format!("`yaml` is not valid YAML: {}", e.place()),
        false => format!("`yaml` is not valid YAML: {e}"),
    })?;
    let mut found = Vec::new();
    for (i, YamlDocument { value, line }) in parsed.into_iter().enumerate() {
        let value = if secret { value.sensitive() } else { value };
        let document = Document::new(&value).map_err(|e| format!("line {line}, document {}: {e}", i + 1))?;
        found.extend(document);
    }
    if found.is_empty() {
        return Err("`yaml` contains no object".to_owned());
    }
    reject_duplicates(&found)?;
    Ok(found)
}

/// Refuses two documents of the same object, and two documents with the same key in the attribute `objects` (same kind and name, other group).
fn reject_duplicates(documents: &[Document]) -> Result<(), String> {
    let (mut identities, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (i, document) in documents.iter().enumerate() {
        let (key, number) = (&document.key, i + 1);
        if let Some(other) = identities.insert(key.identity(), number) {
            return Err(format!("{key} is declared twice, in the documents {other} and {number}"));
        }
        if let Some((other, version)) = names.insert(key.to_string(), (number, &key.api_version)) {
            let versions = format!("of {version} and of {}", key.api_version);
            return Err(format!(
                "{key} is declared twice, in the documents {other} and {number}, {versions}: use two resources"
            ));
        }
    }
    Ok(())
}

impl Document {
    /// Reads one declared object; `None` while its key is unknown.
    fn new(declared: &Value) -> Result<Option<Self>, String> {
        if matches!(declared.reveal(), Value::Unknown | Value::Retained) {
            return Ok(None);
        }
        let map =
            declared.as_map().ok_or_else(|| format!("an object must be a table, not a {}", declared.type_name()))?;
        let Some(api_version) = text(map, "apiVersion", "`apiVersion`, such as \"v1\" or \"apps/v1\"")? else {
            return Ok(None);
        };
        let Some(kind) = text(map, "kind", "`kind`, such as \"ConfigMap\"")? else { return Ok(None) };
        let metadata = match map.get("metadata").map(Value::reveal) {
            Some(Value::Map(metadata)) => metadata,
            Some(Value::Unknown | Value::Retained) => return Ok(None),
            _ => return Err(format!("the {kind} is missing `metadata`")),
        };
        if !metadata.contains_key("name") && metadata.contains_key("generateName") {
            return Err(format!(
                "the {kind} has `generateName`, but moorfast finds objects by name: set `metadata.name`"
            ));
        }
        let Some(name) = text(metadata, "name", "`metadata.name`")? else { return Ok(None) };
        let namespace = match metadata.get("namespace").map(Value::reveal) {
            Some(Value::Unknown | Value::Retained) => return Ok(None),
            Some(Value::String(namespace)) if !namespace.is_empty() => Some(namespace.clone()),
            _ => None,
        };
        let mut fields = declared_fields(map, api_version == "v1" && kind == "Secret");
        if kind == "ClusterRole" && api_version.starts_with("rbac.authorization.k8s.io/") {
            without_aggregated_rules(&mut fields, &name)?;
        }
        let declared = if matches!(declared, Value::Sensitive(_)) { fields.sensitive() } else { fields };
        Ok(Some(Self { key: ObjectKey { api_version, kind, namespace, name }, declared }))
    }

    /// Returns the document without those of `fields` that it declares empty.
    pub(crate) fn without_empty(&self, fields: &FieldSet) -> Self {
        let mut document = self.clone();
        fields.remove_empty_from(&mut document.declared);
        document
    }

    /// Returns the object as it is sent, in `namespace`; `None` while a part of it is unknown.
    pub(crate) fn body(&self, namespace: Option<&str>) -> Option<Json> {
        let mut body = self.declared.to_json()?;
        match (namespace, body["metadata"].as_object_mut()) {
            (Some(namespace), Some(metadata)) => _ = metadata.insert("namespace".to_owned(), Json::from(namespace)),
            // The kind is cluster-scoped, or its scope is not known yet.
            (None, Some(metadata)) => _ = metadata.shift_remove("namespace"),
            (_, None) => {}
        }
        Some(body)
    }
}

/// Returns the text of the field `name`. `shown` is the field in the error message.
fn text(map: &ValueMap, name: &str, shown: &str) -> Result<Option<String>, String> {
    match map.get(name).map(Value::reveal) {
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(Value::Unknown | Value::Retained) => Ok(None),
        Some(Value::Null) | None => Err(format!("the object is missing {shown}")),
        Some(other) => Err(format!("`{name}` must be a string, not a {}", other.type_name())),
    }
}

/// Returns the key of an observed object.
pub(super) fn key_of(value: &Value) -> Option<ObjectKey> {
    Document::new(value).ok()?.map(|document| document.key)
}

/// Returns the object without the fields that the API server sets. The data of a Secret becomes sensitive, in the form in which the server stores it.
fn declared_fields(map: &ValueMap, is_secret: bool) -> Value {
    let mut declared = map.clone();
    declared.remove("status");
    if let Some(Value::Map(metadata)) = declared.get_mut("metadata") {
        for name in ["managedFields", "creationTimestamp", "resourceVersion", "uid", "generation", "selfLink"] {
            metadata.remove(name);
        }
    }
    if is_secret {
        seal_secret(&mut declared);
    }
    Value::Map(declared)
}

/// Removes the empty rules of an aggregated ClusterRole: its controller fills them.
fn without_aggregated_rules(declared: &mut Value, name: &str) -> Result<(), String> {
    let Value::Map(map) = declared else { return Ok(()) };
    if map.get("aggregationRule").is_none_or(Value::is_null) {
        return Ok(());
    }
    match map.get("rules").map(Value::reveal) {
        Some(Value::List(rules)) if !rules.is_empty() => {
            Err(format!("the `aggregationRule` of the ClusterRole {name} fills its rules; remove `rules`"))
        }
        Some(Value::List(_) | Value::Null) => {
            map.remove("rules");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn seal_secret(declared: &mut ValueMap) {
    let texts = declared.remove("stringData").unwrap_or_default();
    let data = declared.remove("data").unwrap_or_default();
    // If `data` or `stringData` is unknown as a whole, all data is.
    let is_open = |value: &&Value| matches!(value.reveal(), Value::Unknown | Value::Retained);
    if let Some(open) = [&data, &texts].into_iter().find(is_open) {
        declared.insert("data".to_owned(), open.clone().sensitive());
        return;
    }
    let mut data = data.as_map().cloned().unwrap_or_default();
    for (name, value) in texts.as_map().into_iter().flatten() {
        let encoded = match value.reveal() {
            Value::String(text) => Value::from(STANDARD.encode(text)),
            other => other.clone(),
        };
        data.insert(name.clone(), encoded);
    }
    if !data.is_empty() {
        let sealed = data.into_iter().map(|(name, value)| (name, value.sensitive()));
        declared.insert("data".to_owned(), Value::Map(sealed.collect()));
    }
}

/// Returns JSON with the fields of `declared`. Sensitive and unknown values are replaced by `true`.
pub(crate) fn shape(declared: &Value) -> Json {
    match declared.reveal() {
        Value::Unknown | Value::Retained | Value::Sensitive(_) => Json::Bool(true),
        sealed if sealed.is_sealed() => Json::Bool(true),
        Value::Map(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), shape(v))).collect()),
        Value::List(items) => items.iter().map(shape).collect(),
        Value::Null => Json::Null,
        Value::Bool(b) => Json::from(*b),
        Value::Number(n) => Json::Number(n.clone()),
        Value::String(text) => Json::from(text.as_str()),
    }
}

/// Converts an object to a value that is sensitive where `declared` is, and in the data of a Secret.
pub(crate) fn mark(object: Json, declared: &Value) -> Value {
    let is_secret = is_secret(&object);
    let mut marked = mark_like(Value::from(object), declared);
    if is_secret && let Value::Map(map) = &mut marked {
        if let Some(Value::Map(data)) = map.get_mut("data") {
            data.values_mut().for_each(hide);
        }
        if let Some(Value::Map(metadata)) = map.get_mut("metadata")
            && let Some(Value::Map(annotations)) = metadata.get_mut("annotations")
        {
            annotations.get_mut(LAST_APPLIED).into_iter().for_each(hide);
        }
    }
    marked
}

fn hide(value: &mut Value) {
    *value = std::mem::take(value).sensitive();
}

fn mark_like(value: Value, declared: &Value) -> Value {
    if is_marked(declared) {
        return value.sensitive();
    }
    match (value, declared) {
        (Value::Map(map), Value::Map(like)) => {
            let marked = map.into_iter().map(|(name, value)| {
                let value = match like.get(&name) {
                    Some(like) => mark_like(value, like),
                    None => value,
                };
                (name, value)
            });
            Value::Map(marked.collect())
        }
        // The server may reorder the items, so one sensitive item makes the whole list sensitive.
        (list @ Value::List(_), Value::List(like)) if like.iter().any(holds_secret) => list.sensitive(),
        (value, _) => value,
    }
}

fn is_marked(value: &Value) -> bool {
    matches!(value, Value::Sensitive(_)) || value.is_sealed()
}

/// Returns the redaction of the sensitive values in `declared`, plain and base64-decoded.
pub(super) fn redaction(declared: &Value) -> Redaction {
    let mut texts = Vec::new();
    secrets(declared, &mut texts);
    Redaction::of_texts(texts)
}

fn secrets(declared: &Value, found: &mut Vec<String>) {
    match declared {
        Value::Sensitive(_) => texts(declared.reveal(), found),
        Value::List(items) => items.iter().for_each(|item| secrets(item, found)),
        Value::Map(map) => map.values().for_each(|value| secrets(value, found)),
        _ => {}
    }
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Map(map) => map.values().for_each(|value| texts(value, found)),
        Value::String(text) => {
            found.extend(STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()));
            found.push(text.clone());
        }
        Value::Number(number) => found.push(number.to_string()),
        _ => {}
    }
}

fn holds_secret(value: &Value) -> bool {
    is_marked(value)
        || match value {
            Value::Map(map) => map.values().any(holds_secret),
            Value::List(items) => items.iter().any(holds_secret),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, value: Value) -> Result<Declared, (&'static str, String)> {
        Declared::read(&[(name.to_owned(), value)].into())
    }

    fn keys(yaml: &str) -> Result<Vec<String>, String> {
        let declared = read("yaml", Value::from(yaml)).map_err(|(_, e)| e)?;
        Ok(declared.documents().iter().map(|d| d.key.identity()).collect())
    }

    #[test]
    fn yaml_documents_and_lists_are_read() {
        let yaml = "# bindings\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: d, namespace: a}\n";
        assert_eq!(keys(yaml).unwrap(), ["Namespace/a", "Deployment.apps/a/d"]);
    }

    #[test]
    fn a_document_is_read_as_kubectl_reads_it() {
        let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  base: &base {mode: 0400, enabled: yes}\n  volume: {<<: *base, name: \"0400\"}\n";
        let declared = read("yaml", Value::from(yaml)).unwrap();
        let spec = &declared.documents()[0].body(None).unwrap()["spec"];
        assert_eq!(spec["volume"], json!({"mode": 256, "enabled": true, "name": "0400"}));
    }

    #[test]
    fn invalid_objects_are_refused_with_a_reason() {
        let cases = [
            ("", "contains no object"),
            ("- 1", "document 1: an object must be a table, not a list"),
            ("kind: Pod", "document 1: the object is missing `apiVersion`"),
            ("apiVersion: v1\nkind: Pod", "document 1: the Pod is missing `metadata`"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x}", "`generateName`"),
            ("apiVersion: 1\nkind: Pod\nmetadata: {name: x}", "`apiVersion` must be a string, not a number"),
            (
                "{apiVersion: v1, kind: Pod, metadata: {name: x}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: x}}",
                "Pod/x is declared twice, in the documents 1 and 2",
            ),
            (
                "{apiVersion: v1, kind: Pod, metadata: {name: x}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: default}}",
                "Pod/default/x is declared twice, in the documents 1 and 2",
            ),
            (
                "{apiVersion: apps/v1, kind: D, metadata: {name: x}}\n---\n{apiVersion: apps/v1beta1, kind: D, metadata: {name: x}}",
                "D/x is declared twice, in the documents 1 and 2",
            ),
            (
                "{apiVersion: a/v1, kind: D, metadata: {name: x}}\n---\n{apiVersion: b/v1, kind: D, metadata: {name: x}}",
                "D/x is declared twice, in the documents 1 and 2, of a/v1 and of b/v1: use two resources",
            ),
            ("# one\n---\nkind: Pod\nkind: Pod", "is not valid YAML: line 4, column 1: duplicate key `kind`"),
            (
                "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: x}, aggregationRule: {}, rules: [{}]}",
                "the `aggregationRule` of the ClusterRole x fills its rules",
            ),
            ("a: [", "is not valid YAML"),
        ];
        for (yaml, reason) in cases {
            let error = keys(yaml).unwrap_err();
            assert!(error.contains(reason), "{yaml:?}: {error}");
        }
    }

    #[test]
    fn fields_that_the_server_drops_or_fills_are_not_sent() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r", "namespace": "web"},
            "aggregationRule": {"clusterRoleSelectors": []}, "rules": []});
        let Ok(Declared::Manifest(document)) = read("manifest", role.into()) else { panic!() };
        let body = document.body(None).unwrap();
        assert_eq!((body.get("rules"), body["metadata"].get("namespace")), (None, None));
        let applied = ObjectKey { namespace: None, ..document.key.clone() };
        assert!(document.key.means(&applied));
        let elsewhere = ObjectKey { namespace: Some("dev".to_owned()), ..applied };
        assert!(!document.key.means(&elsewhere));
    }

    #[test]
    fn the_data_of_a_secret_is_sensitive_and_encoded() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
        let Ok(Declared::Manifest(document)) = read("manifest", secret.into()) else { panic!() };
        assert!(!format!("{document:?}").contains("hunter2"));
        assert_eq!(document.body(Some("a")).unwrap()["data"], json!({"password": "aHVudGVyMg=="}));
        assert!(document.declared.as_map().unwrap()["data"].is_sensitive());
    }

    #[test]
    fn an_error_never_quotes_sensitive_yaml() {
        let (_, error) = read("yaml", Value::from("password: [hunter2").sensitive()).unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("line 1"), "{error}");
        let (_, error) = read("yaml", Value::from("hunter2: 1\nhunter2: 2").sensitive()).unwrap_err();
        assert_eq!(error, "`yaml` is not valid YAML: line 2, column 1");
        let text = "kind: Secret\nstringData:\n  password: hunter2\n bad: indent\n";
        let (_, error) = read("yaml", Value::from(text)).unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("line 4"), "{error}");
    }

    #[test]
    fn the_data_of_a_secret_can_be_unknown_as_a_whole() {
        for (name, open) in [("data", Value::Unknown), ("stringData", Value::Unknown), ("data", Value::Retained)] {
            let mut secret = Value::from(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}));
            let Value::Map(map) = &mut secret else { panic!() };
            map.insert(name.to_owned(), open.clone());
            let Ok(Declared::Manifest(document)) = read("manifest", secret) else { panic!() };
            assert_eq!(document.declared.as_map().unwrap()["data"].reveal(), &open, "{name}");
        }
    }

    #[test]
    fn an_object_is_sensitive_where_its_declaration_is() {
        let declared = Value::Map(
            [
                ("a".to_owned(), Value::from("x").sensitive()),
                ("b".to_owned(), Value::from("y")),
                ("c".to_owned(), Value::List(vec![Value::from("z").sensitive()])),
                ("d".to_owned(), Value::from(json!({"$sensitive": "blake3:0"}))),
            ]
            .into(),
        );
        let marked = mark(json!({"a": "1", "b": "2", "c": ["3"], "d": "4"}), &declared);
        assert_eq!(format!("{marked:?}"), r#"{"a": (sensitive), "b": "2", "c": (sensitive), "d": (sensitive)}"#);
    }

    #[test]
    fn refusals_are_quoted_without_sensitive_values() {
        let declared = Value::Map(
            [
                ("data".to_owned(), Value::from("a\"b\nc").sensitive()),
                ("short".to_owned(), Value::from(STANDARD.encode("y")).sensitive()),
            ]
            .into(),
        );
        let cases = [
            ("Invalid value: \"a\\\"b\\nc\": too short", "Invalid value: \"(sensitive)\": too short"),
            ("not a\"b\nc", "not (sensitive)"),
            ("managed by \"kubectl\"", "managed by \"kubectl\""),
        ];
        for (text, expected) in cases {
            assert_eq!(redaction(&declared).text(text), expected);
        }
    }

    #[test]
    fn the_last_applied_annotation_of_a_secret_is_sensitive() {
        let annotations = json!({ LAST_APPLIED: "{\"data\":{\"a\":\"eA==\"}}", "other": "shown" });
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"annotations": annotations}, "data": {"a": "eA=="}});
        let shown = format!("{:?}", mark(secret, &Value::Null));
        assert!(!shown.contains("eA==") && shown.contains("shown"), "{shown}");
    }
}

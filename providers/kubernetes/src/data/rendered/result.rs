//! The objects that a rendering prints.

use moorfast_engine::model::{ObjectDocument, Value, ValueMap, YamlDocument, object_documents, objects_by_key};
use moorfast_engine::provider::{Class, ProviderError};

use super::secrets::marked_where_different;
use crate::resource::object::{ObjectKey, at, text};

/// The annotation of an object that Helm applies at a certain time only.
const HOOK: &str = "helm.sh/hook";

/// The objects of a rendering by their keys.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rendered {
    pub(super) documents: ValueMap,
    pub(super) hooks: ValueMap,
}

impl Rendered {
    /// Reads the output of a program. Namespaced objects that name no namespace get `namespace`. The data of Secrets becomes sensitive.
    ///
    /// # Errors
    /// If the output contains something else than objects, or an object twice: the reason in one line.
    pub(super) fn of(output: &str, namespace: Option<&str>) -> Result<Self, String> {
        let documents = object_documents(output).map_err(|error| format!("the output is not valid YAML: {error}"))?;
        let lines: Vec<_> = output.lines().collect();
        let kinds = cluster_scoped_kinds(&documents);
        let objects = documents.into_iter().map(|YamlDocument { value, line }| {
            let place = template(&lines, line).map_or_else(|| format!("line {line} of the output"), str::to_owned);
            ObjectDocument { object: with_hidden_data(in_namespace(value, namespace, &kinds)), place }
        });
        let (hooks, documents): (Vec<_>, Vec<_>) = objects.partition(|document| is_hook(&document.object));
        Ok(Self { documents: objects_by_key(documents)?, hooks: objects_by_key(hooks)? })
    }

    /// Makes everything sensitive except what identifies an object.
    pub(super) fn hidden(self) -> Self {
        let hidden = |objects: ValueMap| objects.into_iter().map(|(key, object)| (key, hidden(object))).collect();
        Self { documents: hidden(self.documents), hooks: hidden(self.hooks) }
    }

    /// Makes everything sensitive that differs from `other`, the rendering without the sensitive values.
    ///
    /// # Errors
    /// If the two renderings have other objects.
    pub(super) fn compared(self, other: &Self) -> Result<Self, ProviderError> {
        let is_same = |objects: &ValueMap, others: &ValueMap| objects.keys().eq(others.keys());
        if !is_same(&self.documents, &other.documents) || !is_same(&self.hooks, &other.hooks) {
            let summary = "a sensitive value decides which objects the chart has, or what they are called";
            return Err(ProviderError::new(Class::Failed, summary).attribute("values").help(
                "kind, namespace and name are part of addresses, which are shown: use nonsensitive() for the value if it is not secret",
            ));
        }
        let compared = |objects: ValueMap, others: &ValueMap| {
            let pairs = objects.into_iter().zip(others.values());
            pairs.map(|((key, object), other)| (key, compared(object, other))).collect()
        };
        Ok(Self { documents: compared(self.documents, &other.documents), hooks: compared(self.hooks, &other.hooks) })
    }
}

fn compared(object: Value, other: &Value) -> Value {
    match marked_where_different(object, other) {
        whole @ Value::Sensitive(_) => hidden(whole.reveal().clone()),
        marked => marked,
    }
}

/// Returns the template that the comment of Helm before a document names.
fn template<'a>(lines: &[&'a str], line: usize) -> Option<&'a str> {
    let before = lines.get(..line.saturating_sub(1))?.iter().rev();
    before.take_while(|line| line.starts_with('#')).find_map(|line| line.strip_prefix("# Source: "))
}

fn is_hook(object: &Value) -> bool {
    at(object, &["metadata", "annotations", HOOK]).is_some()
}

/// The group and the kind of an object.
type GroupKind = (String, String);

/// Returns the cluster-scoped kinds that the documents define.
fn cluster_scoped_kinds(documents: &[YamlDocument]) -> Vec<GroupKind> {
    let definitions = documents.iter().map(|document| &document.value);
    let is_cluster_scoped = |d: &&Value| {
        text(d, &["kind"]) == Some("CustomResourceDefinition") && text(d, &["spec", "scope"]) == Some("Cluster")
    };
    let kind =
        |d: &Value| Some((text(d, &["spec", "group"])?.to_owned(), text(d, &["spec", "names", "kind"])?.to_owned()));
    definitions.filter(is_cluster_scoped).filter_map(kind).collect()
}

/// Returns the object with `namespace` if it is namespaced and names none. A cluster-scoped object loses the namespace that some charts write.
fn in_namespace(mut object: Value, namespace: Option<&str>, cluster_scoped: &[GroupKind]) -> Value {
    let key = ObjectKey {
        api_version: text(&object, &["apiVersion"]).unwrap_or_default().to_owned(),
        kind: text(&object, &["kind"]).unwrap_or_default().to_owned(),
        namespace: None,
        name: String::new(),
    };
    let is_cluster_scoped = key.is_cluster_scoped()
        || cluster_scoped.iter().any(|(group, kind)| (group.as_str(), kind) == (key.group(), &key.kind));
    if let Value::Map(map) = &mut object
        && let Some(Value::Map(metadata)) = map.get_mut("metadata")
    {
        let is_missing = metadata.get("namespace").is_none_or(|own| own.as_str().is_none_or(str::is_empty));
        match namespace {
            _ if is_cluster_scoped => _ = metadata.remove("namespace"),
            Some(namespace) if is_missing => _ = metadata.insert("namespace".to_owned(), Value::from(namespace)),
            _ => {}
        }
    }
    object
}

/// Returns the object with sensitive data if it is a Secret.
fn with_hidden_data(mut object: Value) -> Value {
    let is_secret = text(&object, &["kind"]) == Some("Secret") && text(&object, &["apiVersion"]) == Some("v1");
    if let Value::Map(map) = &mut object
        && is_secret
    {
        for name in ["data", "stringData"] {
            if let Some(Value::Map(data)) = map.get_mut(name) {
                data.values_mut().for_each(hide);
            }
        }
    }
    object
}

/// Returns the object with everything sensitive except what identifies it.
fn hidden(mut object: Value) -> Value {
    if let Value::Map(map) = &mut object {
        for (name, member) in map.iter_mut() {
            match (name.as_str(), member) {
                ("apiVersion" | "kind", _) => {}
                ("metadata", Value::Map(metadata)) => {
                    let others = metadata.iter_mut().filter(|(name, _)| !matches!(name.as_str(), "name" | "namespace"));
                    others.for_each(|(_, value)| hide(value));
                }
                (_, member) => hide(member),
            }
        }
    }
    object
}

fn hide(value: &mut Value) {
    *value = std::mem::take(value).sensitive();
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: &str = "---
# Source: web/templates/role.yaml
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: web, namespace: web}
---
# Source: web/templates/secret.yaml
apiVersion: v1
kind: Secret
metadata: {name: web, labels: {app: web}}
stringData: {password: s3cr3t}
---
# Source: web/templates/crd.yaml
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.example.com}
spec: {group: example.com, scope: Cluster, names: {kind: Fleet}}
---
# Source: web/templates/fleet.yaml
apiVersion: example.com/v1
kind: Fleet
metadata: {name: a}
---
# Source: web/templates/other.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: own, namespace: other}
---
# Source: web/templates/test.yaml
apiVersion: v1
kind: Pod
metadata: {name: test, annotations: {helm.sh/hook: test}}
";

    #[test]
    fn namespaced_objects_get_the_namespace_and_hooks_are_separate() {
        let rendered = Rendered::of(CHART, Some("web")).unwrap();
        let keys = rendered.documents.keys().collect::<Vec<_>>();
        let expected = [
            "ClusterRole/web",
            "ConfigMap/other/own",
            "CustomResourceDefinition/fleets.example.com",
            "Fleet/a",
            "Secret/web/web",
        ];
        assert_eq!(keys, expected);
        assert_eq!(rendered.hooks.keys().collect::<Vec<_>>(), ["Pod/web/test"]);
        let rendered = Rendered::of(CHART, None).unwrap();
        assert!(rendered.documents.contains_key("Secret/web"), "{rendered:?}");
    }

    #[test]
    fn the_data_of_a_secret_is_sensitive() {
        let rendered = Rendered::of(CHART, None).unwrap();
        let shown = format!("{:?}", rendered.documents["Secret/web"]);
        assert!(
            shown.contains("\"stringData\": {\"password\": (sensitive)}") && shown.contains("\"app\": \"web\""),
            "{shown}"
        );
        let hidden = format!("{:?}", Rendered::of(CHART, None).unwrap().hidden().documents["Secret/web"]);
        let expected = "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"labels\": (sensitive), \"name\": \"web\"}, \"stringData\": (sensitive)}";
        assert_eq!(hidden, expected);
    }

    #[test]
    fn an_object_that_is_rendered_twice_names_both_templates() {
        let twice = CHART.to_owned() + CHART.split_inclusive("---\n").nth(2).unwrap().trim_end_matches("---\n");
        let twice = twice
            .replace("metadata: {name: test, annotations: {helm.sh/hook: test}}\n", "metadata: {name: test}\n---\n");
        let error = Rendered::of(&twice, None).unwrap_err();
        assert_eq!(error, "Secret/web is written twice: web/templates/secret.yaml, and web/templates/secret.yaml");
        let error = Rendered::of("a: [", None).unwrap_err();
        assert!(error.starts_with("the output is not valid YAML: line 1, column 4"), "{error}");
    }

    #[test]
    fn a_field_that_depends_on_a_sensitive_value_is_sensitive() {
        let real = CHART.replace("app: web", "app: s3cr3t");
        let compared = Rendered::of(&real, None).unwrap().compared(&Rendered::of(CHART, None).unwrap()).unwrap();
        assert!(!format!("{compared:?}").contains("s3cr3t"));
        let other = CHART.replace("name: own", "name: s3cr3t");
        let error = Rendered::of(&other, None).unwrap().compared(&Rendered::of(CHART, None).unwrap()).unwrap_err();
        assert_eq!(error.summary, "a sensitive value decides which objects the chart has, or what they are called");
    }
}

//! Kinds and namespaces that the manifest creates before it applies an object.

use moorfast_engine::model::{Mode, Value};
use moorfast_engine::provider::{Action, Dependency};

use super::document::{Declared, Document};
use super::key::ObjectKey;

/// The documents of the same instance and of its dependencies.
pub(super) struct Provided<'a> {
    own: &'a [Document],
    dependencies: Vec<DependencyDocument>,
    /// Whether a dependency may install kinds that no document declares, as an operator does.
    may_install_kinds: bool,
    /// Whether a dependency may create namespaces that no document declares.
    may_create_namespaces: bool,
}

/// A document of a dependency.
struct DependencyDocument {
    document: Document,
    is_replaced: bool,
}

impl<'a> Provided<'a> {
    /// Collects the documents of an instance and of its dependencies.
    pub(super) fn of(own: &'a [Document], dependencies: &[Dependency]) -> Self {
        let mut provided =
            Self { own, dependencies: Vec::new(), may_install_kinds: false, may_create_namespaces: false };
        dependencies.iter().filter(|d| d.address.resource.mode == Mode::Managed).for_each(|d| provided.add(d));
        provided
    }

    fn add(&mut self, dependency: &Dependency) {
        let has_changes = dependency.action.is_some_and(Action::accesses_target);
        let resource_type = dependency.address.resource.resource_type.as_str();
        if resource_type != "kubernetes_object" {
            // A command on a node may install anything. The other types of this provider do not.
            let is_foreign = !resource_type.starts_with("kubernetes_");
            self.may_install_kinds |= has_changes && is_foreign;
            self.may_create_namespaces |= has_changes && is_foreign;
            return;
        }
        let declared = Declared::read(&dependency.desired).unwrap_or(Declared::Unknown);
        let is_unknown = declared == Declared::Unknown;
        self.may_create_namespaces |= has_changes && is_unknown;
        self.may_install_kinds |=
            has_changes && (is_unknown || declared.documents().iter().any(|d| may_register_kinds(&d.key)));
        let is_replaced = |key: &ObjectKey| {
            let own = dependency.objects.iter().find(|object| object.identity == key.identity());
            own.map_or(dependency.action, |object| Some(object.action)).is_some_and(Action::is_replacement)
        };
        let documents = declared.documents().iter();
        self.dependencies.extend(documents.map(|document| DependencyDocument {
            is_replaced: is_replaced(&document.key),
            document: document.clone(),
        }));
    }

    fn documents(&self) -> impl Iterator<Item = &Document> {
        self.own.iter().chain(self.dependencies.iter().map(|dependency| &dependency.document))
    }

    /// Whether the manifest defines the kind in this version.
    pub(super) fn has_kind(&self, key: &ObjectKey) -> bool {
        let service = |d: &Document| {
            let text = |name| text(&d.declared, &["spec", name]);
            d.key.kind == "APIService"
                && text("group") == Some(key.group())
                && text("version") == key.api_version.rsplit('/').next()
        };
        self.versions_of_kind(key).contains(&key.api_version) || self.documents().any(service)
    }

    /// Returns the versions in which the manifest defines the kind. An unknown version counts as that of the key.
    pub(super) fn versions_of_kind(&self, key: &ObjectKey) -> Vec<String> {
        let definitions = self.documents().filter(|d| defines(d, key));
        definitions.flat_map(|definition| versions(definition, key)).collect()
    }

    /// Returns the kinds that the manifest defines, as pairs of API version and kind.
    pub(super) fn kinds(&self) -> Vec<(String, String)> {
        let definitions = self.documents().filter(|d| d.key.kind == "CustomResourceDefinition");
        let kinds = definitions.filter_map(|definition| {
            let group = text(&definition.declared, &["spec", "group"])?;
            let kind = text(&definition.declared, &["spec", "names", "kind"])?;
            Some(served_versions(definition)?.flatten().map(move |name| (format!("{group}/{name}"), kind.to_owned())))
        });
        kinds.flatten().collect()
    }

    /// Whether the kind is namespaced, if the manifest defines it.
    pub(super) fn is_namespaced(&self, key: &ObjectKey) -> Option<bool> {
        let definition = self.documents().find(|d| defines(d, key))?;
        Some(text(&definition.declared, &["spec", "scope"])? == "Namespaced")
    }

    /// Whether the manifest creates the namespace, or may create it.
    pub(super) fn has_namespace(&self, name: &str) -> bool {
        self.may_create_namespaces || self.documents().any(|d| is_namespace(&d.key) && d.key.name == name)
    }

    /// Whether a dependency may install kinds that no document declares.
    pub(super) fn may_install_kinds(&self) -> bool {
        self.may_install_kinds
    }

    /// Returns the replaced Namespace or CustomResourceDefinition with which the object of `key` is deleted.
    ///
    /// `replaced` has the identities of the replaced documents of the same instance.
    pub(super) fn replaced_owner(&self, key: &ObjectKey, replaced: &[String]) -> Option<&ObjectKey> {
        let own = self.own.iter().filter(|d| replaced.contains(&d.key.identity()));
        let before =
            self.dependencies.iter().filter(|dependency| dependency.is_replaced).map(|dependency| &dependency.document);
        own.chain(before).find(|owner| is_required(owner, key)).map(|owner| &owner.key)
    }
}

/// Whether the object of `key` cannot exist without `owner`.
fn is_required(owner: &Document, key: &ObjectKey) -> bool {
    (is_namespace(&owner.key) && key.namespace.as_deref() == Some(owner.key.name.as_str())) || defines(owner, key)
}

fn is_namespace(key: &ObjectKey) -> bool {
    key.kind == "Namespace" && key.group().is_empty()
}

/// Whether `definition` is the CustomResourceDefinition of the kind of `key`.
fn defines(definition: &Document, key: &ObjectKey) -> bool {
    let text = |path: &[&str]| text(&definition.declared, path);
    definition.key.kind == "CustomResourceDefinition"
        && text(&["spec", "group"]) == Some(key.group())
        && text(&["spec", "names", "kind"]) == Some(key.kind.as_str())
}

fn versions(definition: &Document, key: &ObjectKey) -> Vec<String> {
    let Some(names) = served_versions(definition) else { return vec![key.api_version.clone()] };
    let version = |name: Option<&str>| name.map(|name| format!("{}/{name}", key.group()));
    names.map(|name| version(name).unwrap_or_else(|| key.api_version.clone())).collect()
}

/// Returns the names of the versions that a CustomResourceDefinition serves. `None` if they are unknown, all or one of them.
fn served_versions(definition: &Document) -> Option<impl Iterator<Item = Option<&str>>> {
    let versions = at(&definition.declared, &["spec", "versions"])?.as_list()?;
    let is_served = |version: &&Value| {
        at(version, &["served"]).is_none_or(|served| served.is_unknown() || served.as_bool() == Some(true))
    };
    Some(versions.iter().filter(is_served).map(|version| at(version, &["name"])?.as_str()))
}

/// Whether the object may register further kinds: a workload, or an object that an operator acts on.
fn may_register_kinds(key: &ObjectKey) -> bool {
    const WORKLOADS: [&str; 7] = ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job", "CronJob", "Pod"];
    // Custom resources such as a HelmChart or a Subscription install software.
    WORKLOADS.contains(&key.kind.as_str()) || (key.group().contains('.') && !key.group().ends_with(".k8s.io"))
}

/// Returns the member of a value at a path of names.
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| value.as_map()?.get(name))
}

/// Returns the text at a path of names.
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    at(value, path)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moorfast_engine::model::Attributes;
    use serde_json::json;

    fn key(api_version: &str, kind: &str, namespace: Option<&str>) -> ObjectKey {
        let namespace = namespace.map(str::to_owned);
        ObjectKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace, name: "x".to_owned() }
    }

    fn dependency(address: &str, action: Action, desired: serde_json::Value) -> Dependency {
        let desired: Attributes = Value::from(desired).as_map().cloned().unwrap();
        Dependency { address: address.parse().unwrap(), action: Some(action), objects: Vec::new(), desired }
    }

    fn definition(version: &str, served: bool) -> serde_json::Value {
        json!({ "manifest": { "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "pots.example.org" },
            "spec": { "group": "example.org", "scope": "Namespaced", "names": { "kind": "Pot" }, "versions": [{ "name": version, "served": served }] } } })
    }

    #[test]
    fn a_definition_provides_the_versions_that_it_serves() {
        let pot = key("example.org/v1", "Pot", None);
        let cases = [
            (dependency("kubernetes_object.d", Action::NoOp, definition("v1", true)), true, vec!["example.org/v1"]),
            (dependency("kubernetes_object.d", Action::Create, definition("v2", true)), false, vec!["example.org/v2"]),
            (dependency("kubernetes_object.d", Action::Create, definition("v1", false)), false, vec![]),
        ];
        for (dependency, expected, versions) in cases {
            let provided = Provided::of(&[], &[dependency]);
            assert_eq!(
                (provided.has_kind(&pot), provided.versions_of_kind(&pot)),
                (expected, versions.iter().copied().map(str::to_owned).collect())
            );
            let kinds: Vec<_> =
                provided.kinds().into_iter().map(|(version, kind)| format!("{version} {kind}")).collect();
            assert_eq!(kinds, versions.iter().map(|version| format!("{version} Pot")).collect::<Vec<_>>());
            assert!(!provided.has_kind(&key("example.com/v1", "Pot", None)) && !provided.may_install_kinds());
        }
    }

    #[test]
    fn only_dependencies_with_changes_may_install_more() {
        let deployment = json!({ "manifest": { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "operator" } } });
        let config = json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" } } });
        let mut unknown = dependency("kubernetes_object.u", Action::Create, json!({}));
        unknown.desired.insert("yaml".to_owned(), Value::Unknown);
        let cases = [
            (dependency("ssh_exec.helm[\"n1\"]", Action::Create, json!({})), (true, true)),
            (dependency("ssh_exec.helm[\"n1\"]", Action::NoOp, json!({})), (false, false)),
            (dependency("data.ssh_file.x[\"n1\"]", Action::Read, json!({})), (false, false)),
            (dependency("kubernetes_object.operator", Action::Create, deployment), (true, false)),
            (dependency("kubernetes_object.c", Action::Create, config), (false, false)),
            (dependency("kubernetes_node.n", Action::Update, json!({})), (false, false)),
            (unknown, (true, true)),
        ];
        for (dependency, expected) in cases {
            let provided = Provided::of(&[], std::slice::from_ref(&dependency));
            assert_eq!((provided.may_install_kinds(), provided.has_namespace("web")), expected, "{dependency:?}");
        }
    }

    #[test]
    fn the_objects_of_a_replaced_definition_or_namespace_are_replaced() {
        let namespace =
            json!({ "manifest": { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "web" } } });
        let dependencies = [
            dependency("kubernetes_object.d", Action::Replace, definition("v1", true)),
            dependency("kubernetes_object.n", Action::Replace, namespace),
        ];
        let provided = Provided::of(&[], &dependencies);
        let owner = |key: &ObjectKey| provided.replaced_owner(key, &[]).map(ToString::to_string);
        assert_eq!(
            owner(&key("example.org/v1", "Pot", None)).as_deref(),
            Some("CustomResourceDefinition/pots.example.org")
        );
        assert_eq!(owner(&key("v1", "ConfigMap", Some("web"))).as_deref(), Some("Namespace/web"));
        assert_eq!(owner(&key("v1", "ConfigMap", None)), None);
        let updated = Provided::of(&[], &[dependency("kubernetes_object.d", Action::Update, definition("v1", true))]);
        assert_eq!(updated.replaced_owner(&key("example.org/v1", "Pot", None), &[]), None);
    }
}

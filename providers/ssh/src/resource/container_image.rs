//! `ssh_container_image`: a container image in containerd, imported from an archive.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask, upload};
use crate::object_answer::Answer;
use crate::script::quote;
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_container_image`.
pub(crate) struct ContainerImage;

/// How long containerd may take for an image that has arrived.
const UNPACKING: Duration = Duration::from_secs(300);

const FUNCTIONS: &str = include_str!("container_image/functions.sh");

const READ: &str = include_str!("container_image/read.sh");

const IMPORT: &str = include_str!("container_image/import.sh");

const REMOVE: &str = include_str!("container_image/remove.sh");

impl Resource for ContainerImage {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A container image in containerd, imported from an archive with `ctr`: for nodes that reach no registry. \
             While containerd does not run, the image counts as missing. A destroy removes the image only if moorfast imported it.",
            [
                Attribute::required(
                    "name",
                    Kind::String,
                    "The full name of the image with its tag, as the archive has it: `registry.k8s.io/pause:3.10`.",
                )
                .replaces(),
                Attribute::required(
                    "source",
                    Kind::String,
                    "The archive on this machine, as `docker save` or `ctr images export` writes it. A relative path starts at the folder of the manifest. It may contain further images, which are imported too.",
                ),
                Attribute::optional(
                    "namespace",
                    Kind::String,
                    "The namespace of containerd. The kubelet uses `k8s.io`.",
                )
                .or("k8s.io")
                .replaces(),
                Attribute::computed(
                    "sha256",
                    Kind::String,
                    "The SHA-256 checksum of the archive that the image was imported from. Missing if the image was pulled or imported by others since.",
                ),
                Attribute::computed("digest", Kind::String, "The digest of the image in containerd: `sha256:…`."),
            ],
        );
        Declaration { name: "ssh_container_image", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let name = attributes.text("name").filter(|name| !is_full_name(name));
        let name = name.map(|name| {
            Invalid::new("name", format!("`{name}` is not the full name of an image"))
                .help("write registry, path and tag: `docker.io/library/busybox:1.36`")
        });
        let namespace = attributes.text("namespace").filter(|namespace| !is_namespace(namespace));
        let namespace = namespace.map(|namespace| {
            Invalid::new("namespace", format!("`{namespace}` is not a namespace of containerd"))
                .help("use letters, digits, `.`, `_` and `-`")
        });
        name.into_iter().chain(namespace).collect()
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("image:{}/{}", attributes.text("namespace").unwrap_or("k8s.io"), attributes.text("name")?))
    }

    fn source(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("source").map(str::to_owned)
    }

    fn settings(&self) -> &'static [&'static str] {
        &["source"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["sha256", "digest"]
    }

    fn read_script(&self, subject: &Subject) -> String {
        format!("{}{READ}", places(subject))
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let Some(digest) = answer.own.field("digest") else { return Ok(None) };
        let mut attributes = Attributes::from([("digest".to_owned(), Value::from(digest))]);
        if let Some(sha256) = answer.own.field("sha256") {
            attributes.insert("sha256".to_owned(), Value::from(sha256));
        }
        for name in ["name", "namespace"] {
            attributes.extend(subject.attributes.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        Ok(Some(Observed { attributes, private: json!(null) }))
    }

    fn plan(&self, request: &PlanRequest, sources: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        let sha256 = match planned.text("source") {
            Some(source) => Value::from(sources.get(source)?.sha256.as_str()),
            None => Value::Unknown,
        };
        let observed = request.observed.as_ref().map(|o| &o.attributes);
        let is_imported = observed.and_then(|o| o.get("sha256")) == Some(&sha256);
        let digest = observed.and_then(|o| o.get("digest")).filter(|_| is_imported);
        planned.insert("digest".to_owned(), digest.cloned().unwrap_or(Value::Unknown));
        planned.insert("sha256".to_owned(), sha256);
        Ok(propose(self, request, planned))
    }

    fn apply_script(
        &self,
        operation: &Operation,
        subject: &Subject,
        sources: &Sources,
    ) -> Result<ShellTask, ProviderError> {
        let places = places(subject);
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(match subject.private["imported"] == true {
                true => ShellTask::long(format!("{places}{REMOVE}")),
                false => ShellTask::quick("note 'the image was there before moorfast and is kept'"),
            });
        }
        let source = sources.get(subject.text("source").unwrap_or_default())?;
        let before = operation.observed.as_ref().and_then(|o| o.attributes.text("sha256"));
        if before == Some(&source.sha256) {
            // Only the path of the archive differs.
            return Ok(ShellTask::quick(":"));
        }
        let body = format!(
            "{places}open_temporary /var/tmp\n{}\nexec 6>&-\nsha256={}\n{IMPORT}",
            upload::receive(&source),
            quote(&source.sha256)
        );
        let limit = Some(upload::limit(&source) + UNPACKING);
        Ok(ShellTask { upload: Some(source), limit, ..ShellTask::long(body) })
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        observed.is_none().then(|| json!({ "imported": true }))
    }
}

/// Whether `name` has a registry, a path, and a tag or a digest, so that containerd and Kubernetes name the image the same.
fn is_full_name(name: &str) -> bool {
    let Some((registry, rest)) = name.split_once('/') else { return false };
    let last = rest.rsplit('/').next().unwrap_or_default();
    let is_registry = registry.contains(['.', ':']) || registry == "localhost";
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c));
    is_registry && is_plain && last.contains([':', '@']) && !last.starts_with([':', '@']) && !last.ends_with([':', '@'])
}

fn is_namespace(name: &str) -> bool {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    is_plain && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 76
}

/// Returns shell variables, the image and the namespace of containerd, and the functions that use them.
fn places(subject: &Subject) -> String {
    let (name, namespace) = (subject.text("name").unwrap_or_default(), subject.text("namespace").unwrap_or("k8s.io"));
    format!("I={}; C={}\n{FUNCTIONS}", quote(name), quote(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        for name in [
            "registry.k8s.io/pause:3.10",
            "localhost/app:1",
            "localhost:5000/app:latest",
            "docker.io/library/busybox@sha256:0ec0055cb17232c7fd359e304f027b86d2820240d8668a4ff027240cbf70c814",
        ] {
            assert!(is_full_name(name), "{name}");
        }
        for name in
            ["pause", "pause:3.10", "library/busybox:1", "registry.k8s.io/pause", "a.b/c:", "a.b/$(x):1", "a.b/c d:1"]
        {
            assert!(!is_full_name(name), "{name}");
        }
    }
}

//! `ssh_link`: a symbolic link.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask, absolute_path, mode, parent, path_obstacle};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::quote;
use crate::sources::Sources;
use crate::subject::Subject;
use crate::writes::{Object, Owner, Write};

/// The resource type `ssh_link`.
pub(crate) struct Link;

impl Resource for Link {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A symbolic link. An existing file or directory at the path is never replaced. A destroy removes the link, not its target.",
            [
                Attribute::required("path", Kind::String, "The absolute path of the link.").replaces(),
                Attribute::required(
                    "target",
                    Kind::String,
                    "The target of the link, exactly as it is stored in the link. It need not exist.",
                ),
                mode::kind_attribute(),
            ],
        );
        Declaration { name: "ssh_link", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        absolute_path(attributes, "path").into_iter().collect()
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("path:{}", attributes.text("path")?))
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["target"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        subject.text("path").map(|path| Topic::Path.of(path)).into_iter().collect()
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let Some(status) = subject.text("path").and_then(|path| answer.node.status(path)) else { return Ok(None) };
        let mut attributes = Attributes::new();
        if let Some(path) = subject.attributes.get("path") {
            attributes.insert("path".to_owned(), path.clone());
        }
        attributes.insert("kind".to_owned(), mode::kind(&status.kind));
        if let Some(target) = &status.target {
            attributes.insert("target".to_owned(), Value::from(target.as_str()));
        }
        Ok(Some(Observed { attributes, private: json!({ "kind": status.kind }) }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        planned.insert("kind".to_owned(), mode::kind("symbolic link"));
        let mut proposal = propose(self, request, planned);
        let kind = request.observed.as_ref().and_then(|o| o.private["kind"].as_str());
        if let Some(kind) = kind.filter(|kind| *kind != "symbolic link") {
            proposal.consequences.push(path_obstacle(kind));
        }
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let path = subject.text("path").unwrap_or_default();
        let start = format!("P={}; D={}", quote(path), quote(parent(path)));
        let only_links = "kind \"$P\"; case $K in absent|'symbolic link') ;; *) fail conflict \"there is a $K at that path\" ;; esac";
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::quick(format!("{start}\n{only_links}\nrm -f -- \"$P\"")));
        }
        let target = subject.attributes.text("target").unwrap_or_default();
        let write = operation.observed.is_none().then(|| Write {
            path: path.to_owned(),
            object: Object::Link(target.to_owned()),
            owner: Owner::Writer,
            mode: None,
            parents: false,
        });
        // The link is created under a temporary name and renamed, so that the path always leads to a target.
        let body = format!(
            "{start}
{only_links}
[ -d \"$D\" ] || fail failed \"the directory $D does not exist (create it with ssh_directory)\"
create_temporary \"$D\"
ln -sfT -- {} \"$T\"
mv -fT -- \"$T\" \"$P\"",
            quote(target)
        );
        Ok(ShellTask { write, ..ShellTask::quick(body) })
    }
}

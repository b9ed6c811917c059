//! `ssh_directory`: a directory without its content.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema};
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
use crate::writes::{Object, Write};

/// The resource type `ssh_directory`.
pub(crate) struct Directory;

const REMOVE_ALL: &str = include_str!("directory/remove_all.sh");

const REMOVE_EMPTY: &str = include_str!("directory/remove_empty.sh");

impl Resource for Directory {
    fn declaration(&self) -> Declaration {
        let [owner, group] = mode::owner_and_group();
        let schema = Schema::new(
            "A directory. Its content is not changed. A destroy removes the directory if it is empty.",
            [
                Attribute::required("path", Kind::String, "The absolute path of the directory.").replaces(),
                owner,
                group,
                Attribute::optional("mode", Kind::Mode, "The permissions, in octal.").or("0755"),
                Attribute::optional("parents", Kind::Bool, "Whether missing parent directories are created (mode 0755). They stay when the directory is destroyed.").or(true).instruction(),
                Attribute::optional("force_destroy", Kind::Bool, "Whether a destroy removes the content too. File systems that are mounted below the directory are unmounted first and never emptied. If the directory is itself a mount point, it is emptied and stays.").or(false).instruction(),
                mode::kind_attribute(),
            ],
        );
        Declaration { name: "ssh_directory", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        absolute_path(attributes, "path").into_iter().collect()
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("path:{}", attributes.text("path")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["parents", "force_destroy"]
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
        if status.kind == "directory" {
            mode::observe(subject, status, &mut attributes);
        }
        Ok(Some(Observed { attributes, private: json!({ "kind": status.kind }) }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        mode::plan(&mut planned);
        planned.insert("kind".to_owned(), mode::kind("directory"));
        let mut proposal = propose(self, request, planned);
        let kind = request.observed.as_ref().and_then(|o| o.private["kind"].as_str());
        if let Some(kind) = kind.filter(|kind| *kind != "directory") {
            proposal.consequences.push(path_obstacle(kind));
        }
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let path = subject.text("path").unwrap_or_default();
        let start = format!("P={}; D={}", quote(path), quote(parent(path)));
        if matches!(operation.action, OperationAction::Delete) {
            let force = subject.setting("force_destroy").and_then(|v| v.as_bool()).unwrap_or_default();
            let body = if force { REMOVE_ALL } else { REMOVE_EMPTY };
            return Ok(ShellTask { long: force, ..ShellTask::quick(format!("{start}\n{body}")) });
        }
        let parents = match subject.attributes.flag("parents") {
            true => "mkdir -p -- \"$D\"",
            false => "[ -d \"$D\" ] || fail failed \"the directory $D does not exist (set parents = true)\"",
        };
        let is_new = operation.observed.is_none();
        let write = is_new.then(|| Write {
            path: path.to_owned(),
            object: Object::Directory,
            owner: mode::owner(&subject.attributes, None),
            mode: subject.attributes.text("mode").map(mode::argument),
            parents: subject.attributes.flag("parents"),
        });
        let body = format!(
            "{start}
kind \"$P\"
case $K in
absent) {parents}; mkdir -- \"$P\" ;;
directory) ;;
*) fail conflict \"there is a $K at that path\" ;;
esac
open_existing \"$P\"
{}",
            mode::set(&subject.attributes)
        );
        Ok(ShellTask { write, ..ShellTask::quick(body) })
    }
}

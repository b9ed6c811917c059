//! `ssh_group`: a group of users.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use serde_json::json;

use super::account::{name_rule, number_rule};
use super::proposal::propose;
use super::{Resource, ShellTask};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_group`.
pub(crate) struct Group;

impl Resource for Group {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A group of users. A destroy removes the group only if moorfast created it.",
            [
                Attribute::required("name", Kind::String, "The name of the group.").replaces(),
                Attribute::optional("gid", Kind::Integer, "The group ID. If unset, the node chooses it.").or_computed(),
                Attribute::optional(
                    "system",
                    Kind::Bool,
                    "Whether a new group is a system group, with a group ID below 1000.",
                )
                .or(false)
                .instruction(),
            ],
        );
        Declaration { name: "ssh_group", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        name_rule(attributes, "name").into_iter().chain(number_rule(attributes, "gid")).collect()
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("group:{}", attributes.text("name")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["system"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["gid"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        subject.text("name").map(|name| Topic::Group.of(name)).into_iter().collect()
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let line = subject.text("name").and_then(|name| answer.node.account(&Topic::Group.of(name)));
        let Some(gid) = line.and_then(|line| line.split(':').nth(2)?.parse::<i64>().ok()) else { return Ok(None) };
        let mut attributes = Attributes::from([("gid".to_owned(), Value::from(gid))]);
        if let Some(name) = subject.attributes.get("name") {
            attributes.insert("name".to_owned(), name.clone());
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        Ok(propose(self, request, request.desired.clone()))
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let attributes = &subject.attributes;
        let name = quote(subject.text("name").unwrap_or_default());
        let gid = attributes.get("gid").and_then(Value::as_i64).map(|gid| format!("-g {gid}")).unwrap_or_default();
        let system = if attributes.flag("system") { "-r" } else { "" };
        Ok(ShellTask::quick(match &operation.action {
            OperationAction::Delete if subject.private["made"] == true => {
                format!("G={name}; if getent group -- \"$G\" >/dev/null; then groupdel -- \"$G\"; fi")
            }
            OperationAction::Delete => "note 'the group existed before moorfast and is kept'".to_owned(),
            OperationAction::Create(_) => format!("groupadd {system} {gid} -- {name}\nfield made yes"),
            OperationAction::Update(_) if gid.is_empty() => ":".to_owned(),
            OperationAction::Update(_) => format!("groupmod {gid} -- {name}"),
        }))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        observed.is_none().then(|| json!({ "made": true }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        if answer.is("made") { json!({ "made": true }) } else { subject.private.clone() }
    }
}

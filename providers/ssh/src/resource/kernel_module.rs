//! `ssh_kernel_module`: a kernel module, loaded now and at boot.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_kernel_module`.
pub(crate) struct KernelModule;

impl Resource for KernelModule {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A kernel module, loaded now, and at boot by a file in `/etc/modules-load.d`. A module that is built into the kernel counts as loaded. \
             A destroy removes the file, and unloads the module if moorfast loaded it and nothing uses it.",
            [
                Attribute::required("name", Kind::String, "The name of the module: `br_netfilter`.").replaces(),
                Attribute::computed("loaded", Kind::Bool, "Whether the module is loaded or built into the kernel."),
                Attribute::computed("at_boot", Kind::Bool, "Whether the file of moorfast loads the module at boot."),
            ],
        );
        Declaration { name: "ssh_kernel_module", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let Some(name) = attributes.text("name") else { return Vec::new() };
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Vec::new();
        }
        let message = format!("`{name}` is not a valid name of a kernel module");
        vec![Invalid::new("name", message).help("use letters, digits, `_` and `-`")]
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("module:{}", in_kernel(attributes.text("name")?)))
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        subject.text("name").map(|name| Topic::Module.of(in_kernel(name))).into_iter().collect()
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let name = subject.text("name").unwrap_or_default();
        let Some(module) = answer.node.module(&in_kernel(name)) else { return Ok(None) };
        let boot = module.boot == [name];
        if !boot && !module.loaded {
            return Ok(None);
        }
        let mut attributes = Attributes::from([
            ("loaded".to_owned(), Value::from(module.loaded)),
            ("at_boot".to_owned(), Value::from(boot)),
        ]);
        if let Some(name) = subject.attributes.get("name") {
            attributes.insert("name".to_owned(), name.clone());
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        planned.insert("loaded".to_owned(), Value::from(true));
        planned.insert("at_boot".to_owned(), Value::from(true));
        Ok(propose(self, request, planned))
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let places = places(subject);
        if matches!(operation.action, OperationAction::Delete) {
            let unload = match subject.private["loaded"] == true {
                true => {
                    "modprobe -r -- \"$O\" 2>/dev/null || note 'the module is in use and stays loaded until the next boot'"
                }
                false => "",
            };
            return Ok(ShellTask::quick(format!("{places}\nrm -f -- \"$F\"\n{unload}")));
        }
        let loaded = operation.observed.as_ref().and_then(|o| o.attributes.get("loaded")?.as_bool()) == Some(true);
        let load = if loaded { "" } else { "modprobe -- \"$O\"; field made yes" };
        Ok(ShellTask::quick(format!(
            "{places}
{load}
mkdir -p /etc/modules-load.d; create_temporary /etc/modules-load.d
printf '%s\\n' {} > \"$T\"; chmod 0644 \"$T\"; sync -- \"$T\"; mv -fT -- \"$T\" \"$F\"",
            quote(subject.text("name").unwrap_or_default())
        )))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let loaded = observed.is_some_and(|o| o.attributes.flag("loaded"));
        (!loaded).then(|| json!({ "loaded": true }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        if answer.is("made") { json!({ "loaded": true }) } else { subject.private.clone() }
    }
}

/// Returns the name that the kernel gives a module.
fn in_kernel(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns shell variables: the module name of the kernel, and the file that loads the module at boot.
fn places(subject: &Subject) -> String {
    let name = in_kernel(subject.text("name").unwrap_or_default());
    format!("O={}; F={}", quote(&name), quote(&format!("/etc/modules-load.d/moorfast-{name}.conf")))
}

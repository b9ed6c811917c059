//! `ssh_reboot`: a reboot of the machine, when one is required.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Consequence, Declaration, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask};
use crate::machine;
use crate::object_answer::Answer;
use crate::script::Section;
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_reboot`.
pub(crate) struct Reboot;

const FUNCTIONS: &str = include_str!("reboot/functions.sh");

const READ: &str = include_str!("reboot/read.sh");

const REQUEST: &str = include_str!("reboot/request.sh");

/// Shell that ends the operation after the boot.
const FINISH: &str = "rm -f -- \"$REQUESTED\"\n";

/// The time in which the machine must answer again.
const LIMIT: Duration = Duration::from_secs(600);

impl Resource for Reboot {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A reboot of the machine when one is required, once per node. It is required if `/run/reboot-required` exists (Debian, Ubuntu), or if the running kernel is not the newest one in `/boot`. \
             Resources in `restart_on` are a reason too: a package that is upgraded in the same run. The apply reboots the machine, while no other operation runs on it, and waits until it answers with another boot-id, by default for 10 minutes (`timeouts`). \
             The plan shows the reboot as a restart. A reason that a reboot did not remove is no reason for another one, and an interrupted run does not reboot the machine again. In a rollout the nodes reboot one after the other. \
             The machine that runs moorfast is never rebooted. A destroy changes nothing.",
            [
                Attribute::optional("when", Kind::OneOf(&["required", "restart_on"]), "`required`: the machine reboots only if one of the reasons above applies; after changes of the resources in `restart_on` this is checked again. `restart_on`: it also reboots whenever one of those resources changes.").or("required"),
                Attribute::computed("required", Kind::Bool, "Whether a reboot is required now."),
                Attribute::computed("reasons", Kind::list(Kind::String), "Why it is required."),
            ],
        );
        Declaration { name: "ssh_reboot", target_kind: TargetKind::Node, schema }
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        Some("reboot:of the machine".to_owned())
    }

    fn settings(&self) -> &'static [&'static str] {
        &["when"]
    }

    fn read_script(&self, _: &Subject) -> String {
        format!("{FUNCTIONS}{READ}")
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let found = answer.own.text("reasons").unwrap_or_default();
        // What is a reason right after an operation was not removed by it.
        let remaining = match subject.before.is_some() {
            true => found.lines().collect(),
            false => strings(&subject.private["remaining"]),
        };
        let reasons: Vec<&str> = found.lines().filter(|reason| !remaining.contains(reason)).collect();
        let attributes = Attributes::from([
            ("required".to_owned(), Value::from(!reasons.is_empty())),
            ("reasons".to_owned(), Value::from(reasons.iter().map(|reason| (*reason).to_owned()).collect::<Vec<_>>())),
        ]);
        let (boot, requested) = (answer.own.field("boot"), answer.own.field("requested"));
        // An adoption does not accept reasons.
        let private = json!({ "remaining": remaining, "boot": boot, "requested": requested });
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        planned.insert("required".to_owned(), Value::from(false));
        planned.insert("reasons".to_owned(), Value::List(Vec::new()));
        let mut proposal = propose(self, request, planned);
        let observed = request.observed.as_ref();
        if observed.is_some_and(|observed| is_here(&observed.private)) {
            return Err(ProviderError::new(Class::Invalid, "the machine that runs moorfast is never rebooted")
                .help("run moorfast on another machine, or exclude this node with `on`"));
        }
        let reasons = observed.map(|observed| observed.attributes.texts("reasons")).unwrap_or_default();
        let triggers = || request.triggers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let cause = match (reasons.is_empty(), request.triggers.is_empty()) {
            (false, _) => format!("the machine reboots: {}", reasons.join("; ")),
            (true, false) if is_always(&request.desired) => format!("the machine reboots: {} changes", triggers()),
            (true, false) => format!("the machine reboots if it is required after {} changes", triggers()),
            (true, true) => return Ok(proposal),
        };
        if proposal.action == ProposedAction::NoOp {
            proposal.action = ProposedAction::Update;
        }
        proposal.consequences.push(Consequence::Restart { cause });
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::quick(":"));
        }
        let found = operation.observed.as_ref().map(|observed| &observed.private);
        if found.is_some_and(is_here) {
            return Err(ProviderError::new(Class::Invalid, "the machine that runs moorfast is never rebooted"));
        }
        let is_required = operation.observed.as_ref().is_some_and(|observed| observed.attributes.flag("required"));
        let is_retried = operation.recorded.as_ref().is_some_and(|record| record.incomplete);
        // An interrupted run may have rebooted the machine.
        let is_done = is_retried
            && found.is_some_and(|found| found["requested"].is_string() && found["requested"] != found["boot"]);
        let is_triggered = !operation.triggers.is_empty() && !is_done;
        let request = match (is_required, is_triggered && is_always(&subject.attributes), is_triggered || is_retried) {
            (true, ..) | (_, true, _) => REQUEST.to_owned(),
            (false, false, true) => format!("if [ -n \"$(reasons)\" ]; then\n{REQUEST}fi"),
            (false, false, false) => String::new(),
        };
        Ok(ShellTask {
            after_boot: Some(format!("{FUNCTIONS}{FINISH}")),
            limit: Some(LIMIT),
            ..ShellTask::long(format!("{FUNCTIONS}{request}"))
        })
    }

    fn private(&self, _: &Subject, answer: &Section) -> serde_json::Value {
        json!({ "remaining": answer.text("reasons").unwrap_or_default().lines().collect::<Vec<_>>() })
    }
}

/// Whether changes of the resources in `restart_on` are enough.
fn is_always(attributes: &Attributes) -> bool {
    attributes.text("when") == Some("restart_on")
}

/// Returns the texts of a JSON list.
fn strings(list: &serde_json::Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str()).collect()
}

/// Whether the machine with this boot is the one that runs moorfast.
fn is_here(private: &serde_json::Value) -> bool {
    private["boot"].as_str().is_some_and(|boot| machine::own_boot_id().as_deref() == Some(boot))
}

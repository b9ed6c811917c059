//! `ssh_swap`: the use of swap.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE};
use crate::object_answer::Answer;
use crate::script::Section;
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_swap`.
pub(crate) struct Swap;

const READ: &str = include_str!("swap/read.sh");

/// Shell that rewrites the lines of `/etc/fstab`, for use after [`TEXT_FILE`].
const FSTAB: &str = include_str!("swap/fstab.sh");

const COMMENT: &str = include_str!("swap/comment.sh");

/// Shell that fails if no swap area is active.
const ANY: &str = "[ \"$(wc -l < /proc/swaps)\" -gt 1 ] || fail failed 'no swap area is active: add one to /etc/fstab'";

/// Defines a `rewrite` that removes the comment again.
const UNCOMMENT: &str = r##"rewrite() { printf '%s\n' "${L#'# moorfast: '}"; }"##;

impl Resource for Swap {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The use of swap on a node, once per node. Off means that swap is off now, that it is commented out in `/etc/fstab` (with the marker `# moorfast:`), and that `swap.target` is masked, so that it stays off after a boot. \
             A destroy restores all three as they were before moorfast.",
            [
                Attribute::optional(
                    "enabled",
                    Kind::Bool,
                    "Whether the node uses swap. The kubelet by default requires that it does not.",
                )
                .or(false),
                Attribute::computed("devices", Kind::list(Kind::String), "The active swap devices and swap files."),
                Attribute::computed("at_boot", Kind::Bool, "Whether swap would be active after the next boot."),
            ],
        );
        Declaration { name: "ssh_swap", target_kind: TargetKind::Node, schema }
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        Some("swap:all".to_owned())
    }

    fn read_script(&self, _: &Subject) -> String {
        READ.to_owned()
    }

    fn observe(&self, _: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let lines = |name: &str| -> Vec<String> {
            answer.own.text(name).unwrap_or_default().lines().map(str::to_owned).collect()
        };
        let (devices, fstab) = (lines("devices"), lines("fstab"));
        let masked = answer.own.field("target").is_some_and(|state| state.starts_with("masked"));
        let at_boot = !masked || !fstab.is_empty();
        let attributes = Attributes::from([
            ("enabled".to_owned(), Value::from(!devices.is_empty())),
            ("devices".to_owned(), Value::from(devices)),
            ("at_boot".to_owned(), Value::from(at_boot)),
        ]);
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        match planned.get("enabled").and_then(Value::as_bool) {
            Some(false) => {
                planned.insert("devices".to_owned(), Value::List(Vec::new()));
                planned.insert("at_boot".to_owned(), Value::from(false));
            }
            Some(true) => {
                planned.insert("at_boot".to_owned(), Value::from(true));
            }
            None => {}
        }
        Ok(propose(self, request, planned))
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let remember = "field was_masked \"$(systemctl is-enabled swap.target 2>/dev/null || true)\"\nwhile read -r D _; do case $D in Filename) ;; *) printf '%b\\n' \"$D\" ;; esac; done < /proc/swaps | blob before";
        let off = format!("{remember}\nswapoff -a\n{COMMENT}\n{TEXT_FILE}{FSTAB}\nsystemctl mask swap.target");
        let on = format!("{remember}\nsystemctl unmask swap.target\n{UNCOMMENT}\n{TEXT_FILE}{FSTAB}\nswapon -a\n{ANY}");
        Ok(ShellTask::long(match &operation.action {
            OperationAction::Delete => restore(&subject.private),
            _ if subject.attributes.flag("enabled") => on,
            _ => off,
        }))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let observed = &observed?.attributes;
        Some(json!({ "masked": !observed.flag("at_boot"), "devices": observed.texts("devices") }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        match (subject.private.is_null(), answer.field("was_masked"), answer.text("before")) {
            (true, Some(target), Some(before)) => {
                json!({ "masked": target.starts_with("masked"), "devices": before.lines().collect::<Vec<_>>() })
            }
            _ => subject.private.clone(),
        }
    }
}

/// Returns shell that restores the state from before moorfast.
fn restore(private: &serde_json::Value) -> String {
    if private.is_null() {
        return ":".to_owned();
    }
    let unmask = if private["masked"] == true { "" } else { "systemctl unmask swap.target\n" };
    let devices = private["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let on: String = devices
        .iter()
        .filter_map(|device| device.as_str())
        .map(|device| {
            let device = crate::script::quote(device);
            format!("swaps | grep -qxF -- {device} || swapon -- {device} || note 'swap could not be enabled again'\n")
        })
        .collect();
    let swaps = "swaps() { while read -r D _; do printf '%b\\n' \"$D\"; done < /proc/swaps; }";
    format!("{unmask}{UNCOMMENT}\n{TEXT_FILE}{FSTAB}\n{swaps}\n{on}")
}

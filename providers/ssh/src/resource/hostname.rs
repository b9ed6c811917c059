//! `ssh_hostname`: the host name of a node.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction, ProviderError,
    TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE, not_sensitive, path_obstacle};
use crate::object_answer::Answer;
use crate::script::quote;
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_hostname`.
pub(crate) struct Hostname;

const READ: &str = include_str!("hostname/read.sh");

const FUNCTIONS: &str = include_str!("hostname/functions.sh");

/// The longest name that the kernel accepts.
const LONGEST: usize = 64;

impl Resource for Hostname {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The host name of a node, once per node: the kernel's name now, and the name in `/etc/hostname` for the next boot. \
             A program that runs may keep the previous name until it restarts: name the resource in the `restart_on` of its unit. `/etc/hosts` is not changed: see `ssh_file_block`. \
             A destroy restores both names as they were before moorfast.",
            [
                Attribute::required(
                    "name",
                    Kind::String,
                    "The host name, up to 64 characters: `gpu01`, `gpu01.example.org`.",
                ),
                Attribute::computed(
                    "kernel_name",
                    Kind::String,
                    "The kernel's host name now. Another program, such as a DHCP client, may have changed it.",
                ),
            ],
        );
        Declaration { name: "ssh_hostname", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let sensitive = not_sensitive(attributes, "name", "every user of the node can see its host name");
        let invalid = attributes.text("name").filter(|name| !is_name(name)).map(|name| {
            Invalid::new("name", format!("`{name}` is not a valid host name"))
                .help("use letters, digits and `-`, in parts of up to 63 characters with dots between them, up to 64 characters in all")
        });
        sensitive.into_iter().chain(invalid).collect()
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        // As of an ssh_file, so that both at once are an error of the manifest.
        Some("path:/etc/hostname".to_owned())
    }

    fn read_script(&self, _: &Subject) -> String {
        READ.to_owned()
    }

    fn observe(&self, _: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let (file, kernel) = (answer.own.text("file"), answer.own.text("kernel").unwrap_or_default());
        // Without the file the name at boot is chosen by others.
        let name = file.as_deref().map(name_in).unwrap_or_default();
        let attributes = Attributes::from([
            ("name".to_owned(), Value::from(name)),
            ("kernel_name".to_owned(), Value::from(kernel.trim())),
        ]);
        let private = json!({ "kind": answer.own.field("kind"), "file": file, "kernel": kernel.trim() });
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if let Some(name) = planned.get("name").filter(|name| !name.is_retained()).cloned() {
            planned.insert("kernel_name".to_owned(), name);
        }
        let mut proposal = propose(self, request, planned);
        let kind = request.observed.as_ref().and_then(|observed| observed.private["kind"].as_str());
        if let Some(kind) = kind.filter(|kind| *kind != "absent" && !kind.starts_with("regular"))
            && proposal.action != ProposedAction::NoOp
        {
            proposal.consequences.push(path_obstacle(kind));
        }
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::quick(restore(&subject.private)));
        }
        let name = subject.text("name").unwrap_or_default();
        let now = operation.observed.as_ref().and_then(|observed| observed.attributes.text("name"));
        // A file with comments is kept if it has the name.
        let write = match now == Some(name) {
            true => String::new(),
            false => format!("write_text /etc/hostname {}\n", quote(&format!("{name}\n"))),
        };
        Ok(ShellTask::quick(format!("{TEXT_FILE}{FUNCTIONS}{write}set_kernel {}", quote(name))))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let found = &observed?.private;
        Some(json!({ "file": found["file"], "kernel": found["kernel"] }))
    }
}

/// Returns the host name in a text such as that of `/etc/hostname`: the first line that is not empty and no comment.
fn name_in(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default()
}

/// Whether `name` can be a host name.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= LONGEST && name.split('.').all(label)
}

/// Returns shell that restores the state from before moorfast. Without private data moorfast has changed nothing.
fn restore(private: &serde_json::Value) -> String {
    let Some(kernel) = private["kernel"].as_str() else { return ":".to_owned() };
    let file = match private["file"].as_str() {
        Some(text) => format!("write_text /etc/hostname {}", quote(text)),
        None => "rm -f -- /etc/hostname".to_owned(),
    };
    format!("{TEXT_FILE}{FUNCTIONS}{file}\nset_kernel {}", quote(kernel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_is_no_comment_is_the_name() {
        for (text, name) in [("gpu01\n", "gpu01"), ("# a\n\n gpu01 \ngpu02\n", "gpu01"), ("# a\n", ""), ("", "")] {
            assert_eq!(name_in(text), name);
        }
    }

    #[test]
    fn host_names() {
        assert!(["a", "gpu01", "GPU-01.example.org", "1"].into_iter().all(is_name));
        let long = "a".repeat(65);
        assert!(!["", "a b", "-a", "a-", "a..b", "a.", "a_b", &long].into_iter().any(is_name));
    }
}

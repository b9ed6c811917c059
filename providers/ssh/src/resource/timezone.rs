//! `ssh_timezone`: the time zone of a node.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Declaration, Invalid, Need, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE, not_sensitive, path_obstacle};
use crate::object_answer::Answer;
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_timezone`.
pub(crate) struct Timezone;

const FUNCTIONS: &str = include_str!("timezone/functions.sh");

const READ: &str = include_str!("timezone/read.sh");

const REMEMBER: &str = include_str!("timezone/remember.sh");

impl Resource for Timezone {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The time zone of a node, once per node. It is the target of the symbolic link `/etc/localtime`, and the name in `/etc/timezone` if that file exists. \
             A program that runs keeps its time zone until it restarts: name the resource in the `restart_on` of its unit. \
             A file or directory at `/etc/localtime` is never replaced. A destroy restores the link and the file as they were before moorfast.",
            [
                Attribute::required(
                    "name",
                    Kind::String,
                    "The name of the time zone in `/usr/share/zoneinfo`: `Europe/Berlin`, `UTC`.",
                ),
                Attribute::computed(
                    "timezone_file",
                    Kind::String,
                    "The name in `/etc/timezone`, which some programs read. Unset if the file does not exist.",
                ),
            ],
        );
        Declaration { name: "ssh_timezone", target_kind: TargetKind::Node, schema }
    }

    fn need(&self) -> Option<Need> {
        Some(Need::Systemd)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let sensitive = not_sensitive(attributes, "name", "every user of the node can see its time zone");
        let invalid = attributes.text("name").filter(|name| !is_name(name)).map(|name| Invalid {
            attribute: Some("name"),
            message: format!("`{name}` is not a valid name of a time zone"),
            help: Some("write a name such as Europe/Berlin; `timedatectl list-timezones` lists them".to_owned()),
        });
        sensitive.into_iter().chain(invalid).collect()
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        // As of an ssh_link, so that both at once are an error of the manifest.
        Some("path:/etc/localtime".to_owned())
    }

    fn read_script(&self, _: &Subject) -> String {
        format!("{FUNCTIONS}{READ}")
    }

    fn observe(&self, _: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let (target, file) = (answer.own.text("target"), answer.own.text("file"));
        // Without a link the node uses UTC. The empty name differs from the link to UTC, which a manifest may declare.
        let name = target.as_deref().map(name_of).unwrap_or_default();
        let mut attributes = Attributes::from([("name".to_owned(), Value::from(name))]);
        if let Some(file) = &file {
            attributes.insert("timezone_file".to_owned(), Value::from(file.trim()));
        }
        let private = json!({ "kind": answer.own.field("kind"), "target": target, "file": file });
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        let observed = request.observed.as_ref();
        if observed.is_some_and(|o| o.attributes.contains_key("timezone_file"))
            && let Some(name) = planned.get("name").filter(|name| !name.is_retained()).cloned()
        {
            planned.insert("timezone_file".to_owned(), name);
        }
        let mut proposal = propose(self, request, planned);
        let kind =
            observed.and_then(|o| o.private["kind"].as_str()).filter(|_| proposal.action != ProposedAction::NoOp);
        let other = kind.filter(|kind| !matches!(*kind, "absent" | "symbolic link"));
        proposal.consequences.extend(other.map(path_obstacle));
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::quick(restore(&subject.private)));
        }
        let name = subject.text("name").unwrap_or_default();
        let now = operation.observed.as_ref().and_then(|o| o.attributes.text("name"));
        let set_link = if now == Some(name) { "" } else { "set_link \"$Z\"" };
        Ok(ShellTask::quick(format!(
            "{FUNCTIONS}{TEXT_FILE}Z={zone}
case $K in absent|'symbolic link') ;; *) fail conflict \"there is a $K at that path\" ;; esac
[ -f \"$Z\" ] || {{ printf %s {help} | blob help; fail invalid {missing}; }}
{REMEMBER}
{set_link}
if has_file; then write_text \"$F\" {line}; fi",
            zone = quote(&file_of(name)),
            help = quote(HELP),
            missing = quote(&missing(name)),
            line = quote(&format!("{name}\n")),
        )))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let found = &observed?.private;
        Some(json!({ "target": found["target"], "file": found["file"] }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        match subject.private.is_null() && answer.is("before") {
            true => json!({ "target": answer.text("before_target"), "file": answer.text("before_file") }),
            false => subject.private.clone(),
        }
    }
}

/// How to get a missing time zone.
pub(crate) const HELP: &str = "install tzdata with ssh_package, or correct the name";

/// Returns the message that the node has no such time zone.
pub(crate) fn missing(name: &str) -> String {
    format!("the node has no time zone `{name}`")
}

/// Returns the path of the time zone `name` on a node.
pub(crate) fn file_of(name: &str) -> String {
    format!("/usr/share/zoneinfo/{name}")
}

/// Returns the name of the time zone to which a link leads, or the target itself if it is no file of the database.
fn name_of(target: &str) -> &str {
    match target.split_once("/zoneinfo/") {
        Some((_, name)) if is_name(name) => name,
        _ => target,
    }
}

/// Whether `name` can be the name of a time zone.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "+-_".contains(c))
    };
    name.split('/').all(part)
}

/// Returns shell that restores the state from before moorfast. Without private data moorfast has changed nothing.
fn restore(private: &serde_json::Value) -> String {
    if private.is_null() {
        return ":".to_owned();
    }
    let link = match private["target"].as_str() {
        Some(target) => format!("set_link {}", quote(target)),
        None => "rm -f -- \"$L\"".to_owned(),
    };
    let file = private["file"].as_str().map(|text| format!("write_text \"$F\" {}", quote(text))).unwrap_or_default();
    format!(
        "{FUNCTIONS}{TEXT_FILE}case $K in absent|'symbolic link') {link} ;; *) note \"the $K at $L stays: moorfast did not create it\" ;; esac\n{file}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links() {
        let cases = [
            ("/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"),
            ("../usr/share/zoneinfo/America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
            ("/usr/share/zoneinfo/posix/Etc/GMT+5", "posix/Etc/GMT+5"),
            ("/usr/share/zoneinfo/../passwd", "/usr/share/zoneinfo/../passwd"),
            ("/usr/share/zoneinfo/", "/usr/share/zoneinfo/"),
            ("/opt/zone", "/opt/zone"),
        ];
        for (target, name) in cases {
            assert_eq!(name_of(target), name);
        }
    }
}

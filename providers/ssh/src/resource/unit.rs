//! `ssh_systemd_unit`: a systemd unit: its file, its drop-ins, and whether it is enabled and running.

mod change;
mod drop_ins;
mod install;

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, ValueMap, named};
use moorfast_engine::provider::{
    Class, Consequence, Declaration, Invalid, Need, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::{is_equal, propose};
use super::{Resource, ShellTask, absolute_path, parent};
use crate::duration;
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_systemd_unit`.
pub(crate) struct Unit;

/// The folders of unit files that a person or a package writes.
const FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The shortest time that a unit must stay active to count as healthy.
const WATCHED: Duration = Duration::from_secs(5);

impl Resource for Unit {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A systemd unit. With `content`, moorfast manages the unit file; without it, the unit of a package. \
             The unit is restarted when its content or a drop-in changes, and when a resource of `restart_on` changes. systemd reloads its unit files when necessary. \
             An apply fails if a unit with `state = \"running\"` does not start or does not keep running; the error shows the last lines of its journal. \
             As the health gate of a rollout, a unit is healthy if it stays active for five seconds (or `settle`) without a restart. \
             A destroy stops, disables and removes a unit whose content is managed. Other units return to the state that they had before moorfast.",
            [
                Attribute::required("name", Kind::String, "The full name of the unit: `kubelet.service`.").replaces(),
                Attribute::optional("content", Kind::String, "The content of the unit file. If unset, the unit must exist already. If it is removed from the manifest, the file is removed, and the unit of the package is used."),
                Attribute::optional("path", Kind::String, "The path of the unit file, if `content` is set. Default: `/etc/systemd/system/NAME`.").replaces(),
                Attribute::optional("drop_ins", Kind::map(Kind::String), "Drop-in files in `NAME.d` beside the unit file: a map from file names (`10-args.conf`) to contents. A drop-in that is removed from the manifest is removed from the node."),
                Attribute::optional("enabled", Kind::Bool, "Whether the unit is started at boot by its `[Install]` section. A unit whose `[Install]` has only `Also=` counts as enabled if those units are enabled. When `[Install]` changes, the links are updated. If unset, the current state is kept, and a change is not drift.").or_kept(),
                Attribute::optional("state", Kind::OneOf(&["running", "stopped"]), "Whether the unit is running. If unset, the current state is kept, and a change is not drift. Leave it unset for a unit that ends by itself (`Type=oneshot` without `RemainAfterExit=yes`).").or_kept(),
                Attribute::optional("masked", Kind::Bool, "Whether the unit is masked, so that nothing can start it. Cannot be combined with `content`; the unit need not exist. If unset, the current state is kept."),
                Attribute::optional("settle", Kind::Duration, "How long a unit must run without a restart to count as running after an apply.").or("1s").instruction(),
                Attribute::computed("restart_pending", Kind::Bool, "Whether the unit still runs an older definition than the one on disk: after a manual edit, or after an interrupted apply. The next apply restarts the unit."),
            ],
        );
        Declaration { name: "ssh_systemd_unit", target_kind: TargetKind::Node, schema }
    }

    fn need(&self) -> Option<Need> {
        Some(Need::Systemd)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = |attribute, message: String, help: &str| Invalid {
            attribute: Some(attribute),
            message,
            help: Some(help.to_owned()),
        };
        let mut found: Vec<Invalid> = absolute_path(attributes, "path").into_iter().collect();
        if let Some(path) = attributes.text("path").filter(|_| found.is_empty()) {
            let file = path.rsplit('/').next();
            if !FOLDERS.contains(&parent(path)) {
                let message = format!("systemd reads no units in `{}`", parent(path));
                found.push(invalid("path", message, &format!("choose one of {}", FOLDERS.join(", "))));
            } else if attributes.text("name").is_some_and(|name| Some(name) != file) {
                let message = format!("`{path}` is not the file of the unit");
                found.push(invalid("path", message, "the file must have the name of the unit"));
            }
        }
        const KINDS: &[&str] =
            &["service", "socket", "timer", "mount", "automount", "path", "target", "slice", "swap", "scope", "device"];
        if let Some(name) = attributes.text("name") {
            let ends = name.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind));
            let fits = ends && name.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
            if !fits {
                found.push(invalid(
                    "name",
                    format!("`{name}` is not a full unit name"),
                    "write the name with its suffix: kubelet.service",
                ));
            }
        }
        if attributes.is_set("content") && attributes.flag("masked") {
            found.push(invalid(
                "masked",
                "a unit with content cannot be masked".to_owned(),
                "a mask replaces the unit file: remove content or masked",
            ));
        }
        if attributes.flag("masked") && attributes.text("state") == Some("running") {
            found.push(invalid("masked", "a masked unit cannot run".to_owned(), "remove state or masked"));
        }
        if attributes.flag("masked") && attributes.flag("enabled") {
            found.push(invalid("masked", "a masked unit cannot be enabled".to_owned(), "remove enabled or masked"));
        }
        if is_template(attributes) && attributes.is_set("state") {
            found.push(invalid(
                "state",
                "a template cannot have a state".to_owned(),
                "write the state of an instance: a resource with the name getty@tty1.service",
            ));
        }
        if attributes.flag("enabled")
            && let Some(assignments) = written_install(attributes)
        {
            if assignments.is_empty() {
                found.push(invalid(
                    "enabled",
                    "a unit without an [Install] section cannot be enabled".to_owned(),
                    "add [Install] with WantedBy=multi-user.target, or remove enabled",
                ));
            } else if is_template(attributes) && !install::sets(&assignments, "DefaultInstance") {
                found.push(invalid(
                    "enabled",
                    "a template without DefaultInstance= cannot be enabled".to_owned(),
                    "enable an instance: a resource with the name getty@tty1.service",
                ));
            }
        }
        for name in attributes.get("drop_ins").and_then(Value::as_map).into_iter().flat_map(|m| m.keys()) {
            if !name.ends_with(".conf") || name.contains('/') {
                found.push(invalid(
                    "drop_ins",
                    format!("`{name}` is not a valid drop-in name"),
                    "the name ends with .conf and contains no /",
                ));
            }
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("unit:{}", attributes.text("name")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["settle"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["content", "drop_ins"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        subject.text("name").map(|name| Topic::Unit.of(name)).into_iter().collect()
    }

    fn read_script(&self, subject: &Subject) -> String {
        let names = drop_ins::names(subject).into_iter().enumerate();
        let drop_ins = names.map(|(index, name)| {
            format!("if [ -f \"$D\"/{0} ]; then blob drop_in.{index} < \"$D\"/{0}; fi\n", quote(&name))
        });
        format!(
            "{}; if [ -f \"$F\" ]; then blob content < \"$F\"; fi\n{}",
            change::places(subject),
            drop_ins.collect::<String>()
        )
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let Some(status) = subject.text("name").and_then(|name| answer.node.unit(name)) else { return Ok(None) };
        let managed = subject.attributes.is_set("content");
        let content = answer.own.text("content");
        let missing = if managed { content.is_none() } else { status.load == "not-found" };
        if missing {
            return Ok(None);
        }
        let mut attributes = Attributes::new();
        let mut put = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
        if let Some(name) = subject.attributes.get("name") {
            put("name", name.clone());
        }
        if let (true, Some(content)) = (managed, content) {
            put("content", Value::from(content));
            put("path", Value::from(file(subject)));
        }
        let drop_ins: ValueMap = drop_ins::names(subject)
            .into_iter()
            .enumerate()
            .filter_map(|(index, name)| Some((name, Value::from(answer.own.text(&format!("drop_in.{index}"))?))))
            .collect();
        if !drop_ins::names(subject).is_empty() || subject.attributes.is_set("drop_ins") {
            put("drop_ins", Value::Map(drop_ins));
        }
        let desired = |name: &str| subject.attributes.get(name).and_then(Value::as_bool).unwrap_or_default();
        put("enabled", Value::from(status.is("enabled") && !(desired("enabled") && status.is("partial"))));
        // A mask until the next boot is neither `true` nor `false`.
        let file_state = status.file_state.as_str();
        put("masked", Value::from(file_state == "masked" || file_state == "masked-runtime" && !desired("masked")));
        let state = match status.active.as_str() {
            "active" | "reloading" | "refreshing" => "running",
            "inactive" | "deactivating" | "" => "stopped",
            "activating" => "starting",
            other => other,
        };
        put("state", Value::from(state));
        put("restart_pending", Value::from(status.needs_reload || status.is("marked")));
        let private = json!({
            "id": status.id,
            "file_state": file_state,
            "linked": status.is("linked"),
            "own_file": status.is("own_file"),
            "elsewhere": status.is("elsewhere"),
        });
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if planned.is_set("content") && !planned.is_set("path") {
            let subject = Subject { attributes: planned.clone(), ..Subject::default() };
            planned.insert("path".to_owned(), Value::from(file(&subject)));
        }
        planned.insert("restart_pending".to_owned(), Value::from(false));
        let there = |o: &Observed| o.attributes.get("drop_ins").and_then(Value::as_map).is_some_and(|m| !m.is_empty());
        if !planned.is_set("drop_ins") && request.observed.as_ref().is_some_and(there) {
            planned.insert("drop_ins".to_owned(), Value::Map(ValueMap::new()));
        }
        let mut proposal = propose(self, request, planned);
        if let (Some(observed), Some(why)) = (&request.observed, restart_reason(request, &proposal)) {
            let now = observed.attributes.text("state").unwrap_or_default();
            let restarts = match request.desired.text("state") {
                Some("stopped") => false,
                Some(_) => now != "stopped",
                None => now == "running",
            };
            if restarts {
                proposal.consequences.push(Consequence::Restart { cause: why });
                if proposal.action == ProposedAction::NoOp {
                    proposal.action = ProposedAction::Update;
                }
            }
        }
        if let Some(observed) = &request.observed {
            if removes_unit_file(request) {
                proposal.action = ProposedAction::Replace(vec!["content".to_owned()]);
            }
            check_alias_remains(request, observed)?;
            proposal.consequences.extend(obstacle(request, observed).map(|message| Consequence::Obstacle { message }));
        }
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        if !matches!(operation.action, OperationAction::Delete) {
            let task = ShellTask::long(change::apply(operation, subject));
            return Ok(ShellTask { limit: Some(Duration::from_secs(300)), ..task });
        }
        let is_managed = subject.attributes.is_set("content");
        Ok(ShellTask::long(if is_managed { change::remove(subject) } else { change::restore(subject) }))
    }

    fn explain(&self, subject: &Subject) -> Option<String> {
        let places = change::places(subject);
        Some(format!(
            "{places}\nprintf 'The last lines of the journal of %s:\\n' \"$U\"; journalctl -u \"$U\" -n 20 --no-pager -o cat"
        ))
    }

    fn health(&self, subject: &Subject) -> Option<String> {
        let settle = duration::of(&subject.attributes, "settle").unwrap_or_default().max(WATCHED);
        Some(change::stays_healthy(subject, duration::seconds(settle)))
    }

    fn initial_private_data(&self, desired: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        if desired.is_set("content") {
            return None;
        }
        let observed = observed.map(|o| &o.attributes);
        let is = |name: &str| observed.is_some_and(|o| o.flag(name));
        let running = observed.and_then(|o| o.text("state")) == Some("running");
        Some(json!({ "enabled": is("enabled"), "masked": is("masked"), "running": running }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        let found = !subject.private["enabled"].is_null() || subject.attributes.is_set("content");
        let mut private = match answer.text("before").filter(|_| !found) {
            Some(before) => {
                let (file_state, active) = before.split_once(' ').unwrap_or_default();
                json!({ "enabled": file_state == "enabled", "masked": file_state == "masked", "running": active == "active" })
            }
            None => subject.private.clone(),
        };
        // Drop-ins of a failed operation may exist until an operation succeeds.
        let names = match answer.status {
            Some(0) => Vec::new(),
            _ => [drop_ins::of(&subject.attributes), drop_ins::unfinished(&subject.private)].concat(),
        };
        match private.as_object_mut() {
            Some(private) if names.is_empty() => drop(private.remove("drop_ins")),
            Some(private) => drop(private.insert("drop_ins".to_owned(), json!(names))),
            None if names.is_empty() => {}
            None => private = json!({ "drop_ins": names }),
        }
        if private == json!({}) { serde_json::Value::Null } else { private }
    }
}

fn file(subject: &Subject) -> String {
    match subject.text("path") {
        Some(path) => path.to_owned(),
        None => format!("/etc/systemd/system/{}", subject.text("name").unwrap_or_default()),
    }
}

fn restart_reason(request: &PlanRequest, proposal: &Proposal) -> Option<String> {
    if proposal.action == ProposedAction::Create {
        return None;
    }
    let observed = request.observed.as_ref().map(|o| &o.attributes)?;
    if !request.triggers.is_empty() {
        let verb = if request.triggers.len() == 1 { "changes" } else { "change" };
        return Some(format!("{} {verb}", named(&request.triggers).join(", ")));
    }
    let changes = |name: &str| proposal.planned.get(name).is_some_and(|v| !is_equal(observed.get(name), Some(v)));
    if changes("content") || changes("drop_ins") {
        return Some("its definition changes".to_owned());
    }
    observed.flag("restart_pending").then(|| "it runs an older definition".to_owned())
}

/// Returns the assignments of all `[Install]` sections of the manifest, or `None` if a text is unknown or not in the manifest.
fn written_install(attributes: &Attributes) -> Option<Vec<&str>> {
    let mut assignments = install::of(attributes.text("content")?);
    match attributes.get("drop_ins").filter(|v| !v.is_null()) {
        None => {}
        Some(drop_ins) => {
            for content in drop_ins.as_map()?.values() {
                assignments.extend(install::of(content.as_str()?));
            }
        }
    }
    Some(assignments)
}

fn is_template(attributes: &Attributes) -> bool {
    attributes.text("name").is_some_and(|name| name.contains("@."))
}

/// Whether the unit file that moorfast wrote is no longer in the manifest.
fn removes_unit_file(request: &PlanRequest) -> bool {
    let recorded = request.recorded.as_ref().is_some_and(|record| record.attributes.contains_key("content"));
    recorded && !request.desired.is_set("content")
}

/// Checks that the unit still exists after it is disabled.
///
/// # Errors
/// If the name is an alias that exists only while the unit is enabled.
fn check_alias_remains(request: &PlanRequest, observed: &Observed) -> Result<(), ProviderError> {
    let name = request.desired.text("name").unwrap_or_default();
    let id = observed.private["id"].as_str().unwrap_or(name);
    let disabled = request.desired.get("enabled").and_then(Value::as_bool) == Some(false);
    if !disabled || id == name || id.is_empty() || observed.private["linked"] != true {
        return Ok(());
    }
    let message = format!("{name} is an alias of {id} that exists only while {id} is enabled");
    Err(ProviderError::new(Class::Invalid, message).attribute("name").help(format!("name the unit itself: {id}")))
}

/// Returns why an apply of `request` would fail.
fn obstacle(request: &PlanRequest, observed: &Observed) -> Option<String> {
    let becomes = |name: &str| request.desired.flag(name) && !observed.attributes.flag(name);
    let private = |name: &str| observed.private[name] == true;
    if removes_unit_file(request) {
        return (!private("elsewhere")).then(|| "no package provides the unit once its file is removed".to_owned());
    }
    let file_state = observed.private["file_state"].as_str().unwrap_or_default();
    if becomes("masked") && private("own_file") {
        return Some("the file of the unit is in /etc, where the mask would be".to_owned());
    }
    let fixed = matches!(file_state, "static" | "generated" | "transient" | "");
    let redefined = request.desired.is_set("content") || request.desired.is_set("drop_ins");
    (becomes("enabled") && fixed && !redefined).then(|| match file_state {
        "static" => "the unit is static: it has no [Install] section, so it cannot be enabled".to_owned(),
        _ => "the unit has no file of its own, so it cannot be enabled".to_owned(),
    })
}

/// The reason why a unit that does not exist cannot be changed.
pub(crate) const MISSING: &str = "the unit does not exist (install its package first, or set content)";

/// Whether a unit with these attributes must exist before it is changed.
pub(crate) fn must_exist(attributes: &Attributes) -> bool {
    !attributes.is_set("content") && !attributes.flag("masked")
}

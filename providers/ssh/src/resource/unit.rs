//! `ssh_systemd_unit`: a systemd unit: its file, its drop-ins, and whether it is enabled and runs.

use std::collections::BTreeMap;
use std::time::Duration;

use moorfast_engine::plan::Consequence;
use moorfast_engine::{
    Attribute, Attributes, Invalid, Kind, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ResourceType, Schema, Scope, Value, named,
};
use serde_json::json;

use super::{Resource, Step, absolute, flag, parent, propose, same, text, written};
use crate::duration;
use crate::script::{Section, print_bytes, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_systemd_unit`.
pub(crate) struct Unit;

/// How long a unit is watched at least to count as healthy.
const WATCHED: Duration = Duration::from_secs(5);

/// Shell functions for changing `$U`. The marker says across a crash that a restart is still due; it is in /run, since a reboot restarts all.
/// `anew` has systemd forget earlier starts: it refuses a sixth one within ten seconds, which is meant for units that fail by themselves.
const FUNCTIONS: &str = r#"
anew() { systemctl reset-failed -- "$U" 2>/dev/null || true; }
show() { systemctl show --no-pager -p "$1" --value -- "$U"; }
mark() { mkdir -p /run/moorfast; : > "$M"; }
unmark() { rm -f -- "$M"; rmdir /run/moorfast 2>/dev/null || true; }
place() { temporary "$(dirname -- "$1")"; cat > "$T"; chmod 0644 "$T"; sync -- "$T"; mv -fT -- "$T" "$1"; }
broken() {
  journalctl -u "$U" -n 20 --no-pager -o cat 2>/dev/null | blob detail
  fail failed "$1: $(show ActiveState) ($(show SubState)), result $(show Result), exit status $(show ExecMainStatus)"
}
stays() {
  B=$(show NRestarts); C=0
  while [ "$C" -le "$1" ]; do
    case $(show ActiveState)/$(show SubState) in
      active/*) [ "$(show NRestarts)" = "$B" ] || broken 'it does not stay up' ;;
      */auto-restart|failed/*|inactive/*|deactivating/*) broken 'it does not stay up' ;;
      *) C=$((C - 1)) ;;
    esac
    C=$((C + 1)); sleep 0.1
  done
}
"#;

impl Resource for Unit {
    fn resource_type(&self) -> ResourceType {
        let schema = Schema::new(
            "A systemd unit. With `content` its file is managed, without it the unit of a package is. \
             The unit is restarted when its content or a drop-in changes and when a resource of `restart_on` changes; systemd reloads its files whenever it needs to. \
             An apply ends well only if a unit that is to run does run and stays so; else the error holds the last lines of its journal. \
             As a gate of a rollout it is healthy when it is active and stays so for five seconds (or `settle`) without being started again. \
             A destroy stops, disables and removes a unit whose content is managed; other units get back the state that they were found in.",
            [
                Attribute::required("name", Kind::String, "Its full name: `kubelet.service`.").replaces(),
                Attribute::optional("content", Kind::String, "What is in its file. Where it is not written the unit must be there already."),
                Attribute::optional("path", Kind::String, "Where its file is, where `content` is written. Default: `/etc/systemd/system/NAME`.").replaces(),
                Attribute::optional("drop_ins", Kind::map(Kind::String), "Drop-in files in `NAME.d` beside the unit's file: from file names (`10-args.conf`) to contents."),
                Attribute::optional("enabled", Kind::Bool, "Is it started at boot (by its `[Install]` section)? Left as it is where not written.").or_computed(),
                Attribute::optional("state", Kind::OneOf(&["running", "stopped"]), "Does it run? Left as it is where not written. For a unit that ends by itself (`Type=oneshot` without `RemainAfterExit=yes`) write none.").or_computed(),
                Attribute::optional("masked", Kind::Bool, "Can it not be started at all? Only without `content`. Left as it is where not written."),
                Attribute::optional("settle", Kind::Duration, "How long a unit must have run without a restart to count as running after an apply.").or("1s"),
                Attribute::computed("restart_pending", Kind::Bool, "Does it still run an older definition than that on disk? True after an edit by hand, or after an apply that was cut off; the next apply restarts it."),
            ],
        );
        ResourceType { name: "ssh_systemd_unit", scope: Scope::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = |attribute, message: String, help: &str| Invalid {
            attribute: Some(attribute),
            message,
            help: Some(help.to_owned()),
        };
        let mut found: Vec<Invalid> = absolute(attributes, "path").into_iter().collect();
        const KINDS: &[&str] =
            &["service", "socket", "timer", "mount", "automount", "path", "target", "slice", "swap", "scope", "device"];
        if let Some(name) = text(attributes, "name") {
            let ends = name.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind));
            let fits = ends && name.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
            if !fits {
                found.push(invalid(
                    "name",
                    format!("`{name}` is no full name of a unit"),
                    "write it with its kind: kubelet.service",
                ));
            }
        }
        if written(attributes, "content") && flag(attributes, "masked") {
            found.push(invalid(
                "masked",
                "a unit with content cannot be masked".to_owned(),
                "a mask takes the place of the file: remove one of both",
            ));
        }
        if flag(attributes, "masked") && text(attributes, "state") == Some("running") {
            found.push(invalid("masked", "a masked unit cannot run".to_owned(), "remove state or masked"));
        }
        for name in attributes.get("drop_ins").and_then(Value::as_map).into_iter().flat_map(|m| m.keys()) {
            if !name.ends_with(".conf") || name.contains('/') {
                found.push(invalid(
                    "drop_ins",
                    format!("`{name}` is no name of a drop-in"),
                    "it ends with .conf and has no /",
                ));
            }
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("unit:{}", text(attributes, "name")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["settle"]
    }

    fn contents(&self) -> &'static [&'static str] {
        &["content", "drop_ins"]
    }

    fn look(&self, subject: &Subject) -> String {
        let names = names(subject).into_iter().enumerate();
        let drop_ins = names.map(|(index, name)| {
            format!("if [ -f \"$D\"/{0} ]; then blob drop_in.{index} < \"$D\"/{0}; fi\n", quote(&name))
        });
        format!(
            "{}
systemctl show --no-pager -p LoadState -p ActiveState -p UnitFileState -p NeedDaemonReload -- \"$U\" | blob show
if [ -f \"$F\" ]; then blob content < \"$F\"; fi
if [ -e \"$M\" ]; then field marked yes; fi
{}",
            places(subject),
            drop_ins.collect::<String>()
        )
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let shown = seen.text("show").unwrap_or_default();
        let property =
            |name: &str| shown.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        let managed = written(&subject.attributes, "content");
        let content = seen.text("content");
        let missing = if managed { content.is_none() } else { property("LoadState") == "not-found" };
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
        let drop_ins: BTreeMap<String, Value> = names(subject)
            .into_iter()
            .enumerate()
            .filter_map(|(index, name)| Some((name, Value::from(seen.text(&format!("drop_in.{index}"))?))))
            .collect();
        if written(&subject.attributes, "drop_ins") {
            put("drop_ins", Value::Map(drop_ins));
        }
        let file_state = property("UnitFileState");
        put("enabled", Value::from(file_state == "enabled"));
        put("masked", Value::from(file_state.starts_with("masked")));
        let state = match property("ActiveState") {
            "active" | "reloading" => "running",
            "inactive" | "deactivating" => "stopped",
            "activating" => "starting",
            other => other,
        };
        put("state", Value::from(state));
        put("restart_pending", Value::from(property("NeedDaemonReload") == "yes" || seen.is("marked")));
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if written(&planned, "content") && !written(&planned, "path") {
            let subject = Subject { attributes: planned.clone(), ..Subject::default() };
            planned.insert("path".to_owned(), Value::from(file(&subject)));
        }
        planned.insert("restart_pending".to_owned(), Value::from(false));
        let mut proposal = propose(self, request, planned);
        if let (Some(observed), Some(why)) = (&request.observed, restart_reason(request, &proposal)) {
            let runs = text(&observed.attributes, "state") != Some("stopped");
            let stops = text(&request.desired, "state") == Some("stopped");
            if runs && !stops {
                proposal.consequences.push(Consequence::Restart { cause: why });
                if proposal.action == ProposedAction::NoOp {
                    proposal.action = ProposedAction::Update;
                }
            }
        }
        Ok(proposal)
    }

    fn act(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<Step, ProviderError> {
        let start = format!("{}{FUNCTIONS}", places(subject));
        let attributes = &subject.attributes;
        if matches!(operation.action, OperationAction::Delete) {
            let body = if written(attributes, "content") { remove(subject) } else { give_back(subject) };
            return Ok(Step::long(format!("{start}{body}")));
        }
        let before = operation.observed.as_ref().map(|o| &o.attributes);
        let differs =
            |name: &str| written(attributes, name) && !same(before.and_then(|b| b.get(name)), attributes.get(name));
        let redefined = differs("content") || differs("drop_ins");
        let pending = before.is_some_and(|b| flag(b, "restart_pending"));
        let restart = redefined || pending || !operation.triggers.is_empty();
        let mut body = start;
        if !written(attributes, "content") {
            body.push_str("[ \"$(show LoadState)\" != not-found ] || fail failed 'there is no such unit (install its package first, or write its content)'\n");
        }
        body.push_str("printf '%s' \"$(show UnitFileState) $(show ActiveState)\" | blob before\n");
        if restart {
            body.push_str("mark\n");
        }
        if attributes.get("masked").and_then(Value::as_bool) == Some(false) {
            body.push_str("systemctl unmask -- \"$U\"\n");
        }
        body.push_str(&write(subject, before));
        body.push_str("[ \"$(show NeedDaemonReload)\" != yes ] && [ -z \"$R\" ] || systemctl daemon-reload\n");
        body.push_str(&switch(attributes, restart));
        body.push_str("unmark");
        Ok(Step { limit: Some(Duration::from_secs(300)), ..Step::long(body) })
    }

    fn explain(&self, subject: &Subject) -> Option<String> {
        let places = places(subject);
        Some(format!(
            "{places}\nprintf 'The last lines of the journal of %s:\\n' \"$U\"; journalctl -u \"$U\" -n 20 --no-pager -o cat"
        ))
    }

    fn health(&self, subject: &Subject) -> Option<String> {
        let settle = duration::of(&subject.attributes, "settle").unwrap_or_default().max(WATCHED).as_secs();
        Some(format!(
            "{}{FUNCTIONS}run() {{ printf '%s %s' \"$(show NRestarts)\" \"$(show InvocationID)\"; }}
ill() {{ fail failed \"$1: $(show ActiveState) ($(show SubState)), result $(show Result), exit status $(show ExecMainStatus)\"; }}
[ \"$(show ActiveState)\" = active ] || ill 'it does not run'
B=$(run); C=0
while [ \"$C\" -lt {settle} ]; do
  sleep 1; C=$((C + 1))
  [ \"$(show ActiveState)\" = active ] && [ \"$(run)\" = \"$B\" ] || ill 'it does not stay up'
done",
            places(subject)
        ))
    }

    fn found(&self, desired: &Attributes, observed: Option<&Attributes>) -> Option<serde_json::Value> {
        let observed = observed.filter(|_| !written(desired, "content"))?;
        let running = text(observed, "state") == Some("running");
        Some(json!({ "enabled": flag(observed, "enabled"), "masked": flag(observed, "masked"), "running": running }))
    }

    fn private(&self, subject: &Subject, seen: &Section) -> serde_json::Value {
        let found = !subject.private.is_null() || written(&subject.attributes, "content");
        let Some(before) = seen.text("before").filter(|_| !found) else { return subject.private.clone() };
        let (file_state, active) = before.split_once(' ').unwrap_or_default();
        json!({ "enabled": file_state == "enabled", "masked": file_state.starts_with("masked"), "running": active == "active" })
    }
}

/// Shell variables: the unit, its file, its drop-in directory and the marker of a pending restart.
fn places(subject: &Subject) -> String {
    let name = subject.text("name").unwrap_or_default();
    let file = file(subject);
    let directory = format!("{}/{name}.d", parent(&file));
    let marker = format!("/run/moorfast/{name}.restart");
    format!("U={}; F={}; D={}; M={}", quote(name), quote(&file), quote(&directory), quote(&marker))
}

fn file(subject: &Subject) -> String {
    match subject.text("path") {
        Some(path) => path.to_owned(),
        None => format!("/etc/systemd/system/{}", subject.text("name").unwrap_or_default()),
    }
}

/// The names of the drop-ins that are wanted, and of those that were.
fn names(subject: &Subject) -> Vec<String> {
    let of = |attributes: &Attributes| -> Vec<String> {
        attributes.get("drop_ins").and_then(Value::as_map).map(|m| m.keys().cloned().collect()).unwrap_or_default()
    };
    let mut names = of(&subject.attributes);
    names.extend(subject.recorded.as_ref().map(of).unwrap_or_default());
    names.sort();
    names.dedup();
    names
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
    let changes = |name: &str| proposal.planned.get(name).is_some_and(|v| !same(observed.get(name), Some(v)));
    if changes("content") || changes("drop_ins") {
        return Some("its definition changes".to_owned());
    }
    flag(observed, "restart_pending").then(|| "it runs an older definition".to_owned())
}

/// Writes what differs, and sets `R` where anything was written.
fn write(subject: &Subject, before: Option<&Attributes>) -> String {
    let mut body = "R=\n".to_owned();
    let attributes = &subject.attributes;
    let now = |name: &str| before.and_then(|b| b.get(name));
    if let Some(content) = text(attributes, "content").filter(|_| !same(now("content"), attributes.get("content"))) {
        body.push_str(&format!(
            "[ -d \"${{F%/*}}\" ] || mkdir -p -- \"${{F%/*}}\"\n{} | place \"$F\"; R=1\n",
            print_bytes(content.as_bytes())
        ));
    }
    let empty = BTreeMap::new();
    let wanted = attributes.get("drop_ins").and_then(Value::as_map).unwrap_or(&empty);
    let there = now("drop_ins").and_then(Value::as_map).unwrap_or(&empty);
    for (name, content) in wanted.iter().filter(|(name, content)| !same(there.get(*name), Some(content))) {
        let bytes = content.as_str().unwrap_or_default().as_bytes();
        body.push_str(&format!("mkdir -p -- \"$D\"; {} | place \"$D\"/{}; R=1\n", print_bytes(bytes), quote(name)));
    }
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        body.push_str(&format!("rm -f -- \"$D\"/{}; rmdir -- \"$D\" 2>/dev/null || true; R=1\n", quote(name)));
    }
    body
}

/// Enables, starts, restarts, stops and masks.
fn switch(attributes: &Attributes, restart: bool) -> String {
    let mut body = String::new();
    match attributes.get("enabled").and_then(Value::as_bool) {
        Some(true) => body.push_str(
            "systemctl enable -- \"$U\"\n[ \"$(show UnitFileState)\" = enabled ] || fail invalid \"it cannot be enabled ($(show UnitFileState)): it needs an [Install] section\"\n",
        ),
        Some(false) => body.push_str("systemctl disable -- \"$U\"\n"),
        None => {}
    }
    let settle = duration::of(attributes, "settle").unwrap_or(Duration::from_secs(1)).as_millis() / 100;
    match (text(attributes, "state"), restart) {
        (Some("running"), restart) => {
            let verb = if restart { "restart" } else { "start" };
            body.push_str(&format!("anew; systemctl {verb} -- \"$U\" || broken 'it does not start'\nstays {settle}\n"));
        }
        (Some(_), _) => body.push_str("systemctl stop -- \"$U\"; anew\n"),
        (None, true) => body.push_str(&format!(
            "if [ \"$(show ActiveState)\" = active ]; then anew; systemctl restart -- \"$U\" || broken 'it does not start again'; stays {settle}; fi\n"
        )),
        (None, false) => {}
    }
    if flag(attributes, "masked") {
        body.push_str("systemctl mask -- \"$U\"\n");
    }
    body
}

fn without_drop_ins(subject: &Subject) -> String {
    let files: Vec<_> = names(subject).iter().map(|name| format!("\"$D\"/{}", quote(name))).collect();
    match files.is_empty() {
        true => String::new(),
        false => format!("rm -f -- {}; rmdir -- \"$D\" 2>/dev/null || true\n", files.join(" ")),
    }
}

fn remove(subject: &Subject) -> String {
    format!(
        "if [ \"$(show LoadState)\" != not-found ]; then systemctl stop -- \"$U\"; systemctl disable -- \"$U\" 2>/dev/null || true; fi
rm -f -- \"$F\"
{}systemctl daemon-reload
systemctl reset-failed -- \"$U\" 2>/dev/null || true
unmark",
        without_drop_ins(subject)
    )
}

/// Gives a unit that was there before us back as it was found.
fn give_back(subject: &Subject) -> String {
    let attributes = &subject.attributes;
    let was = |name: &str| subject.private[name].as_bool();
    let mut body = without_drop_ins(subject);
    if !body.is_empty() {
        body.push_str("systemctl daemon-reload; systemctl try-restart -- \"$U\"\n");
    }
    let mut back = |attribute: &str, was: Option<bool>, on: &str, off: &str| {
        if let (true, Some(was)) = (written(attributes, attribute), was) {
            body.push_str(&format!("systemctl {} -- \"$U\"\n", if was { on } else { off }));
        }
    };
    back("masked", was("masked"), "mask", "unmask");
    back("enabled", was("enabled"), "enable", "disable");
    if was("masked") != Some(true) {
        back("state", was("running"), "start", "stop");
    }
    format!("if [ \"$(show LoadState)\" != not-found ]; then :\n{body}fi\nunmark")
}

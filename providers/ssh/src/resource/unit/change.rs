//! Shell that changes a unit: the functions of `change.sh`, called with what the operation wants.

use std::time::Duration;

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::provider::Operation;

use super::drop_ins::{self, DropIn};
use super::{file, install, must_exist};
use crate::duration;
use crate::resource::parent;
use crate::resource::proposal::is_equal;
use crate::script::{print_bytes, quote};
use crate::subject::Subject;

/// Shell functions that change `$U`. `disable_unit` keeps the link to a unit file in another folder. The marker records a pending restart across a crash; it is in /run, because a reboot restarts every unit.
/// `reset_start_limit` clears the start counter of systemd, which refuses a sixth start within ten seconds. That limit is meant for units that fail by themselves.
const FUNCTIONS: &str = concat!(include_str!("status.sh"), include_str!("change.sh"));

const NO_SUCH_UNIT: &str = include_str!("no_such_unit.sh");

/// Returns shell variables: the unit, its file, its drop-in directory and the marker of a pending restart.
pub(super) fn places(subject: &Subject) -> String {
    let name = subject.text("name").unwrap_or_default();
    let file = file(subject);
    let directory = format!("{}/{name}.d", parent(&file));
    let marker = format!("/run/moorfast/{name}.restart");
    format!("U={}; F={}; D={}; M={}", quote(name), quote(&file), quote(&directory), quote(&marker))
}

/// Returns shell that defines the functions for the unit of `subject` and reads its status.
fn start(subject: &Subject) -> String {
    format!("{}\n{FUNCTIONS}read_status\n", places(subject))
}

/// Returns shell that brings the unit into the state of `subject`.
pub(super) fn apply(operation: &Operation, subject: &Subject) -> String {
    let attributes = &subject.attributes;
    let before = operation.observed.as_ref().map(|o| &o.attributes);
    let differs =
        |name: &str| attributes.is_set(name) && !is_equal(before.and_then(|b| b.get(name)), attributes.get(name));
    let drop_ins = drop_ins::changed(attributes, before);
    let redefined = differs("content") || !drop_ins.is_empty();
    let pending = before.is_some_and(|b| b.flag("restart_pending"));
    let restart = redefined || pending || !operation.triggers.is_empty();
    let resumed = operation.recorded.as_ref().is_some_and(|r| r.incomplete) && attributes.is_set("content");
    let moves_links = resumed
        || differs("content") && installs(before) != installs(Some(attributes))
        || drop_ins.iter().any(DropIn::changes_install);

    let mut body = start(subject);
    if must_exist(attributes) {
        body.push_str(&format!("if [ \"$load\" = not-found ]; then\n{NO_SUCH_UNIT}\nfi\n"));
    }
    let bool = |name: &str| attributes.get(name).and_then(Value::as_bool);
    body.push_str(&wanted(bool("enabled"), bool("masked"), attributes.text("state")));
    let settle = duration::of(attributes, "settle").unwrap_or(Duration::from_secs(1)).as_millis() / 100;
    let flag = |is: bool| if is { "1" } else { "" };
    body.push_str(&format!("settle={settle} restart={} moves_links={}\nprepare\n", flag(restart), flag(moves_links)));
    if differs("content") {
        let content = print_bytes(attributes.text("content").unwrap_or_default().as_bytes());
        body.push_str(&format!("mkdir -p -- \"${{F%/*}}\"\n{content} | write_file \"$F\"; redefined=1\n"));
    }
    body.extend(drop_ins.iter().map(DropIn::write));
    body.push_str("reload_if_redefined\nset_states");
    body
}

/// Returns shell that removes a unit whose file is managed.
pub(super) fn remove(subject: &Subject) -> String {
    format!("{}stop_and_disable\nrm -f -- \"$F\"\n{}forget_unit", start(subject), without_drop_ins(subject))
}

/// Returns shell that restores the state that an existing unit had before moorfast.
pub(super) fn restore(subject: &Subject) -> String {
    let was =
        |name: &str, attribute: &str| subject.private[name].as_bool().filter(|_| subject.attributes.is_set(attribute));
    let ran = was("running", "state").filter(|_| subject.private["masked"] != true);
    let state = ran.map(|ran| if ran { "running" } else { "stopped" });
    let mut body = start(subject);
    let drop_ins = without_drop_ins(subject);
    if !drop_ins.is_empty() {
        body.push_str(&drop_ins);
        body.push_str("systemctl daemon-reload; [ \"$load\" = not-found ] || systemctl try-restart -- \"$U\"\n");
    }
    body.push_str(&wanted(was("enabled", "enabled"), was("masked", "masked"), state));
    body.push_str("restore_states");
    body
}

/// Returns shell that fails unless the unit stays active for `seconds` without a restart.
pub(super) fn stays_healthy(subject: &Subject, seconds: u64) -> String {
    format!("{}\n{FUNCTIONS}check_health {seconds}", places(subject))
}

/// Returns the variables that say what the unit shall be.
fn wanted(enabled: Option<bool>, masked: Option<bool>, state: Option<&str>) -> String {
    let word = |value: Option<bool>| value.map(|value| value.to_string()).unwrap_or_default();
    format!("want_enabled={} want_masked={} want_state={}\n", word(enabled), word(masked), state.unwrap_or_default())
}

fn installs(attributes: Option<&Attributes>) -> Vec<&str> {
    attributes.and_then(|attributes| attributes.text("content")).map(install::of).unwrap_or_default()
}

fn without_drop_ins(subject: &Subject) -> String {
    let files: Vec<_> = drop_ins::names(subject).iter().map(|name| format!("\"$D\"/{}", quote(name))).collect();
    match files.is_empty() {
        true => String::new(),
        false => format!("rm -f -- {}; rmdir -- \"$D\" 2>/dev/null || true\n", files.join(" ")),
    }
}

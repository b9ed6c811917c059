//! The words and symbols of actions, reasons and durations.

use std::time::Duration;

use moorfast_engine::model::{Departure, named};
use moorfast_engine::plan::{Change, PathSegment, Reason, Selector, parse_path, path_text};
use moorfast_engine::provider::{Action, Consequence, ObjectChange};
use serde_json::Value;

use super::instance_name::change_on_node;
use super::text::{Line, Style, styled};

/// Maximum number of objects in a headline.
const NAMED: usize = 3;

/// The danger of a change. The most dangerous changes are shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Danger {
    /// Only the state changes.
    Bookkeeping,
    /// A new object is created.
    Create,
    /// An object is updated in place.
    Update,
    /// A service is restarted.
    Restart,
    /// An object is destroyed and created again.
    Replace,
    /// An object is destroyed.
    Destroy,
    /// An existing object that is not in the state, and may belong to somebody else, is overwritten.
    Overwrite,
}

/// Returns a count with its noun, for example `1 object` or `3 objects`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Returns a warning.
pub fn warning(text: impl Into<Line>) -> Line {
    styled(Style::Warning, "warning:") + " " + text
}

/// Returns the danger of `change`.
pub fn danger(change: &Change) -> Danger {
    let has = |wanted: fn(&Consequence) -> bool| change.consequences.iter().any(wanted);
    match change.action {
        _ if has(|c| matches!(c, Consequence::Overwrite)) => Danger::Overwrite,
        Action::Delete => Danger::Destroy,
        Action::Replace | Action::ReplaceCreateFirst => Danger::Replace,
        _ if change.objects.iter().any(|object| object.action == Action::Delete) => Danger::Destroy,
        _ if change.removes() => Danger::Replace,
        _ if has(|c| matches!(c, Consequence::Removal { .. })) => Danger::Destroy,
        _ if has(|c| matches!(c, Consequence::Downgrade { .. })) => Danger::Replace,
        Action::Update if change.restarts() => Danger::Restart,
        Action::Update => Danger::Update,
        Action::Create => Danger::Create,
        Action::NoOp | Action::Adopt | Action::Forget | Action::Read => Danger::Bookkeeping,
    }
}

/// Returns the symbol of an action and its style.
pub fn symbol(action: Action) -> (&'static str, Style) {
    match action {
        Action::Create => ("+", Style::Added),
        Action::Update => ("~", Style::Changed),
        Action::Replace => ("-/+", Style::Removed),
        Action::ReplaceCreateFirst => ("+/-", Style::Removed),
        Action::Delete => ("-", Style::Removed),
        Action::Read => ("<=", Style::Read),
        Action::Adopt => ("=", Style::Read),
        Action::Forget => (".", Style::Dim),
        Action::NoOp => (" ", Style::Dim),
    }
}

/// Returns the description of an action in the legend.
pub fn meaning(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update in place",
        Action::Replace => "destroy and then create",
        Action::ReplaceCreateFirst => "create and then destroy",
        Action::Delete => "destroy",
        Action::Read => "read during apply",
        Action::Adopt => "adopt: record an existing object that matches the manifest",
        Action::Forget => "remove from the state, without destroying the object",
        Action::NoOp => "no change",
    }
}

/// Returns the objects of a change that have another action than the whole change, the most dangerous first.
pub fn listed(change: &Change) -> Vec<&ObjectChange> {
    let is_own = |object: &&ObjectChange| object.action != Action::NoOp && object.action != change.action;
    let mut listed: Vec<_> = change.objects.iter().filter(is_own).collect();
    listed.sort_by_key(|object| match object.action {
        Action::Delete => 0,
        Action::Replace | Action::ReplaceCreateFirst => 1,
        Action::Update => 2,
        Action::Create => 3,
        _ => 4,
    });
    listed
}

/// Returns the line of an object: its action, and why it must be replaced.
pub fn object_line(object: &ObjectChange) -> Line {
    let (mark, style) = symbol(object.action);
    let line = styled(style, mark) + " " + object.name.as_str();
    let inside = |path: &String| {
        let steps = parse_path(path);
        let start = steps.iter().position(|step| *step == PathSegment::Name(object.name.clone())).unwrap_or(0);
        path_text(steps.get(start + 1..).unwrap_or_default())
    };
    let forcing: Vec<_> = object.replace_paths.iter().map(inside).collect();
    match object.action {
        Action::Forget => line + " " + styled(Style::Dim, "# moves to another resource"),
        Action::Adopt => line + " " + styled(Style::Dim, "# exists already, will be recorded"),
        _ if forcing.is_empty() => line,
        _ => line + " " + styled(Style::Removed, format!("# forces replacement: {}", forcing.join(", "))),
    }
}

/// Returns the removals by a change that keeps its object, for example `: replaces PersistentVolumeClaim/default/data, removes package apparmor 3.0`.
fn removals(change: &Change) -> Option<String> {
    let some = |verb: &str, names: Vec<String>| {
        let more = names.len().saturating_sub(NAMED);
        let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        match (names.len(), more) {
            (0, _) => None,
            (_, 0) => Some(format!("{verb} {shown}")),
            (_, more) => Some(format!("{verb} {shown} and {more} more")),
        }
    };
    let of = |is_meant: fn(Action) -> bool| {
        let objects = change.objects.iter().filter(|object| is_meant(object.action));
        objects.map(|object| object.name.clone()).collect()
    };
    let others = change.consequences.iter().filter_map(|consequence| match consequence {
        // The removals of a named object are listed with that object.
        Consequence::Removal { object } if change.objects.is_empty() => Some(object.clone()),
        _ => None,
    });
    let parts = [
        some("destroys", of(|action| action == Action::Delete)),
        some("replaces", of(Action::is_replacement)),
        some("removes", others.collect()),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!(": {}", parts.join(", ")))
}

/// Returns the predicate of the headline of a change. An update without changed attributes is a restart because of a trigger.
pub fn headline(change: &Change, attributes: usize) -> Line {
    let overwrites = change.consequences.contains(&Consequence::Overwrite);
    let count = match change.objects.len() {
        0 => String::new(),
        count => format!(" ({count} objects)"),
    };
    let removals = removals(change);
    let danger = |text: &str| styled(Style::Danger, text);
    let with_removals = |verb: &str| danger(&format!("{verb}{}", removals.as_deref().unwrap_or_default()));
    match change.action {
        Action::Update if removals.is_some() => with_removals("will be updated"),
        Action::Create if removals.is_some() => with_removals("will be created"),
        Action::Update if overwrites && change.restarts() => danger("will be overwritten and restarted"),
        Action::Update if overwrites => danger("will be overwritten"),
        Action::Update if change.restarts() && attributes == 0 => styled(Style::Bold, "will be restarted"),
        Action::Update if change.restarts() => styled(Style::Bold, "will be updated in place and restarted"),
        Action::Create => styled(Style::Success, "will be created") + count,
        Action::Update => styled(Style::Bold, "will be updated in place"),
        Action::Replace => danger("must be replaced"),
        Action::ReplaceCreateFirst => danger("must be replaced (created before the old one is destroyed)"),
        Action::Delete => danger("will be destroyed") + count,
        Action::Read => "will be read during apply".into(),
        Action::Adopt => "exists as declared and will be adopted".into(),
        Action::Forget => "will be removed from the state, but not destroyed".into(),
        Action::NoOp => "has no changes".into(),
    }
}

/// Returns the reasons of a change, without `#`. Addresses on the same node are written without the node.
pub fn reasons(change: &Change) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(from) = &change.moved_from {
        lines.push(format!("moved from {from}"));
    }
    let own: Vec<_> = change.consequences.iter().map(ToString::to_string).chain(change.notes.iter().cloned()).collect();
    lines.extend(change.reasons.iter().filter_map(reason_line));
    for pending in [false, true] {
        let of_kind = |reason: &Reason| match reason {
            Reason::Trigger { address, pending: is } if *is == pending => Some(address.clone()),
            _ => None,
        };
        let triggers: Vec<_> = change.reasons.iter().filter_map(of_kind).collect();
        // A note of the provider about a trigger is more exact than the trigger alone.
        let is_new = |name: &String| pending || !own.iter().any(|line| line.contains(name));
        lines.extend(
            named(&triggers).iter().filter(|name| is_new(name)).map(|name| trigger_line(name, pending, change)),
        );
    }
    lines.extend(own.iter().map(|line| without_own_node(line, change)));
    lines
}

fn trigger_line(name: &str, pending: bool, change: &Change) -> String {
    let name = without_own_node(name, change);
    let verb = if name.contains(" instances of ") { "change" } else { "changes" };
    match pending {
        false => format!("because {name} {verb}"),
        true => format!("because {name} changed in an earlier run, and the restart is still pending"),
    }
}

fn reason_line(reason: &Reason) -> Option<String> {
    Some(match reason {
        Reason::New | Reason::Destroy | Reason::Trigger { .. } => return None,
        Reason::Manifest => "because the manifest changed".to_owned(),
        Reason::Drift => "because it was changed outside moorfast".to_owned(),
        Reason::Gone => "because it was deleted outside moorfast".to_owned(),
        Reason::Removed => "because it is no longer in the manifest".to_owned(),
        Reason::Deselected { by: Selector::On } => "because `on` no longer selects this node".to_owned(),
        Reason::Deselected { by: Selector::ForEach } => "because `for_each` no longer has this key".to_owned(),
        Reason::Deselected { by: Selector::Keys } => {
            "because the resource no longer has an instance with this key".to_owned()
        }
        Reason::Immutable { attributes } if attributes.is_empty() => return None,
        Reason::Immutable { attributes } => format!("because {} cannot be changed in place", attributes.join(", ")),
        Reason::Requested => "because --replace requests it".to_owned(),
        Reason::NodeLeaves { how } => match how {
            Departure::Destroyed => "because its node is not in the inventory any more".to_owned(),
            Departure::Released => "because its node left the inventory and is kept as it is".to_owned(),
            Departure::Renamed => "because its machine is another node of the inventory now".to_owned(),
            Departure::Dead => "because the machine of its node does not exist any more".to_owned(),
        },
        Reason::OtherMachine => "because its node is now another machine".to_owned(),
        Reason::Superseded { identity } => {
            format!("also removes {identity}, which an unfinished operation left behind")
        }
        Reason::Incomplete => "because an earlier operation on it failed or was interrupted".to_owned(),
    })
}

/// Removes the node from the addresses in `text` that are on the node of this change, for example `ssh_file.site["shop"]`.
fn without_own_node(text: &str, change: &Change) -> String {
    let Some(key) = &change.address.key else { return text.to_owned() };
    let own = change_on_node(change).map_or(key.as_str(), |on| on.node);
    let quoted = Value::from(own).to_string();
    let open = quoted.strip_suffix('"').unwrap_or(&quoted);
    text.replace(&format!("[{quoted}]"), "").replace(&format!("[{open}/"), "[\"")
}

/// Returns a duration as text, for example `0.4s`, `12s` or `3m 5s`.
pub fn duration(took: Duration) -> String {
    match took.as_secs() {
        0..=9 => format!("{:.1}s", took.as_secs_f64()),
        seconds @ 10..=59 => format!("{seconds}s"),
        seconds => format!("{}m {}s", seconds / 60, seconds % 60),
    }
}

/// Returns the words of the progress lines, for example `Creating` and `Creation complete`.
pub fn progress_words(action: Action) -> (&'static str, &'static str) {
    match action {
        Action::Create => ("Creating", "Creation complete"),
        Action::Update => ("Modifying", "Modifications complete"),
        Action::Replace | Action::ReplaceCreateFirst => ("Replacing", "Replacement complete"),
        Action::Delete => ("Destroying", "Destruction complete"),
        Action::Read => ("Reading", "Read complete"),
        Action::Adopt => ("Adopting", "Adoption complete"),
        Action::Forget => ("Removing from the state", "Removal from the state complete"),
        Action::NoOp => ("Checking", "Check complete"),
    }
}

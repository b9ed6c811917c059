//! The action for one instance and its reasons: the proposal of the provider under the rules of the lifecycle and the options of the plan.

use moorfast_state::Record;
use serde_json::{Map, Value as Json};

use super::diff::differences;
use super::model::Reason;
use super::triggers::Trigger;
use crate::provider::{Action, ProposedAction};

/// The facts about one instance from which its action is chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct Situation<'a> {
    pub recorded: RecordStatus,
    /// The observed attributes, sealed. `None` if the object does not exist.
    pub before: Option<&'a Map<String, Json>>,
    /// The change of the identity, if the manifest declares another object than the recorded one, which exists.
    pub identity_change: Option<IdentityChange>,
    /// Whether the object was changed outside moorfast since the last apply.
    pub has_drifted: bool,
    /// Whether the instance is recorded on a machine that another machine replaced.
    pub is_on_former_machine: bool,
    /// Whether `--replace` names the instance.
    pub is_replacement_requested: bool,
    /// The triggers of `replace_triggered_by`.
    pub replaced_by: Vec<Trigger>,
    /// The triggers of `restart_on`.
    pub restarted_by: Vec<Trigger>,
}

/// The record of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RecordStatus {
    #[default]
    Absent,
    /// The last operation on the instance did not complete.
    Incomplete,
    Complete,
}

impl RecordStatus {
    pub fn of(record: Option<&Record>) -> Self {
        match record {
            None => Self::Absent,
            Some(record) if record.incomplete => Self::Incomplete,
            Some(_) => Self::Complete,
        }
    }
}

/// The change of the identity of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityChange {
    /// The attributes that changed the identity.
    pub attributes: Vec<String>,
    /// Whether the new object is created before the old one is destroyed.
    pub creates_first: bool,
}

/// Returns the action for an instance with the planned attributes `after`, and its reasons.
pub(super) fn action(
    situation: Situation,
    proposed: ProposedAction,
    after: &Map<String, Json>,
) -> (Action, Vec<Reason>) {
    let of_triggers = |triggers: &[Trigger]| -> Vec<Reason> {
        let reason = |t: &Trigger| Reason::Trigger { address: t.address.clone(), pending: t.pending };
        triggers.iter().map(reason).collect()
    };
    let with_restarts = |mut reasons: Vec<Reason>| {
        reasons.extend(of_triggers(&situation.restarted_by));
        reasons
    };
    if let Some(IdentityChange { attributes, creates_first }) = &situation.identity_change {
        let action = if *creates_first { Action::ReplaceCreateFirst } else { Action::Replace };
        return (action, with_restarts(vec![Reason::Immutable { attributes: attributes.clone() }]));
    }
    let is_recorded = situation.recorded != RecordStatus::Absent;
    let mut forced: Vec<_> = situation.is_replacement_requested.then_some(Reason::Requested).into_iter().collect();
    forced.extend(of_triggers(&situation.replaced_by));
    forced.extend((situation.is_on_former_machine && is_recorded).then_some(Reason::OtherMachine));
    if !forced.is_empty() && situation.before.is_some() {
        return (Action::Replace, with_restarts(forced));
    }
    let proposed = match proposed {
        ProposedAction::Compare if differences(situation.before, after).is_empty() => ProposedAction::NoOp,
        ProposedAction::Compare => ProposedAction::Update,
        other => other,
    };
    match (proposed, situation.recorded) {
        // An incomplete operation is done again even if nothing differs: a wait that timed out is waited for again.
        (ProposedAction::NoOp, RecordStatus::Incomplete) => (Action::Update, vec![Reason::Incomplete]),
        (ProposedAction::NoOp, RecordStatus::Absent) => (Action::Adopt, Vec::new()),
        (ProposedAction::NoOp, RecordStatus::Complete) => (Action::NoOp, Vec::new()),
        (ProposedAction::Create, _) => (Action::Create, with_restarts(reasons(&situation, after))),
        (ProposedAction::Update | ProposedAction::Compare, _) => {
            (Action::Update, with_restarts(reasons(&situation, after)))
        }
        (ProposedAction::Replace(attributes), _) => {
            (Action::Replace, with_restarts(vec![Reason::Immutable { attributes }]))
        }
    }
}

/// Returns the reasons to create or update an instance.
pub(super) fn reasons(situation: &Situation, after: &Map<String, Json>) -> Vec<Reason> {
    if situation.is_on_former_machine {
        return vec![Reason::OtherMachine];
    }
    let differs = || !differences(situation.before, after).is_empty();
    match (situation.recorded, situation.before) {
        (RecordStatus::Absent, _) => vec![Reason::New],
        (RecordStatus::Complete, None) => vec![Reason::Gone],
        (RecordStatus::Complete, Some(_)) if situation.has_drifted => vec![Reason::Drift],
        (RecordStatus::Complete, Some(_)) if differs() => vec![Reason::Manifest],
        (RecordStatus::Complete, Some(_)) => Vec::new(),
        (RecordStatus::Incomplete, _) => vec![Reason::Incomplete],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes(value: Json) -> Map<String, Json> {
        value.as_object().unwrap().clone()
    }

    fn trigger(address: &str) -> Trigger {
        Trigger { address: address.parse().unwrap(), pending: false }
    }

    fn triggered(address: &str) -> Reason {
        Reason::Trigger { address: address.parse().unwrap(), pending: false }
    }

    #[test]
    fn the_record_and_the_observed_object_give_the_action_and_the_reason() {
        use ProposedAction as Proposed;
        use RecordStatus::{Absent, Complete, Incomplete};
        let (old, new) = (attributes(json!({"mode": "0600"})), attributes(json!({"mode": "0644"})));
        for (recorded, before, has_drifted, proposed, action_and_reasons) in [
            (Absent, None, false, Proposed::Create, (Action::Create, vec![Reason::New])),
            (Absent, Some(&new), false, Proposed::NoOp, (Action::Adopt, vec![])),
            (Absent, Some(&old), false, Proposed::Update, (Action::Update, vec![Reason::New])),
            (Complete, Some(&new), false, Proposed::NoOp, (Action::NoOp, vec![])),
            (Complete, None, false, Proposed::Create, (Action::Create, vec![Reason::Gone])),
            (Complete, Some(&old), true, Proposed::Update, (Action::Update, vec![Reason::Drift])),
            (Complete, Some(&old), false, Proposed::Update, (Action::Update, vec![Reason::Manifest])),
            (Complete, Some(&new), false, Proposed::Update, (Action::Update, vec![])),
            (Complete, Some(&new), false, Proposed::Compare, (Action::NoOp, vec![])),
            (Complete, Some(&old), false, Proposed::Compare, (Action::Update, vec![Reason::Manifest])),
            (Incomplete, Some(&new), false, Proposed::NoOp, (Action::Update, vec![Reason::Incomplete])),
            (Incomplete, None, false, Proposed::Create, (Action::Create, vec![Reason::Incomplete])),
            (Incomplete, Some(&old), false, Proposed::Update, (Action::Update, vec![Reason::Incomplete])),
        ] {
            let situation = Situation { recorded, before, has_drifted, ..Situation::default() };
            assert_eq!(action(situation, proposed.clone(), &new), action_and_reasons, "{recorded:?} {proposed:?}");
        }
    }

    #[test]
    fn an_existing_object_is_replaced_on_request_by_a_trigger_or_with_its_machine() {
        let now = attributes(json!({}));
        let exists = || Situation { recorded: RecordStatus::Complete, before: Some(&now), ..Situation::default() };
        let of = |situation| action(situation, ProposedAction::NoOp, &now);
        let requested = Situation { is_replacement_requested: true, restarted_by: vec![trigger("a.b")], ..exists() };
        assert_eq!(of(requested), (Action::Replace, vec![Reason::Requested, triggered("a.b")]));
        let replaced = Situation { replaced_by: vec![trigger("a.c")], ..exists() };
        assert_eq!(of(replaced), (Action::Replace, vec![triggered("a.c")]));
        let moved = || Situation { is_on_former_machine: true, ..exists() };
        assert_eq!(of(moved()), (Action::Replace, vec![Reason::OtherMachine]));
        // Without a record, the object is on the new machine already.
        let unrecorded = Situation { recorded: RecordStatus::Absent, ..moved() };
        assert_eq!(of(unrecorded), (Action::Adopt, Vec::new()));
        // An object that does not exist is only created.
        let absent = Situation { before: None, is_replacement_requested: true, ..exists() };
        assert_eq!(action(absent, ProposedAction::Create, &now), (Action::Create, vec![Reason::Gone]));
    }

    #[test]
    fn another_identity_or_an_immutable_attribute_is_a_replacement() {
        let now = attributes(json!({}));
        let renamed = |creates_first| Situation {
            recorded: RecordStatus::Complete,
            identity_change: Some(IdentityChange { attributes: vec!["path".to_owned()], creates_first }),
            is_replacement_requested: true,
            restarted_by: vec![trigger("a.b")],
            ..Situation::default()
        };
        let immutable = |name: &str| Reason::Immutable { attributes: vec![name.to_owned()] };
        let reasons = vec![immutable("path"), triggered("a.b")];
        assert_eq!(action(renamed(false), ProposedAction::Create, &now), (Action::Replace, reasons.clone()));
        assert_eq!(action(renamed(true), ProposedAction::Create, &now), (Action::ReplaceCreateFirst, reasons));
        let same = Situation { recorded: RecordStatus::Complete, before: Some(&now), ..Situation::default() };
        let proposed = ProposedAction::Replace(vec!["size".to_owned()]);
        assert_eq!(action(same, proposed, &now), (Action::Replace, vec![immutable("size")]));
    }
}

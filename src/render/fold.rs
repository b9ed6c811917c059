//! Equal changes of several instances become one block: ten nodes with the same file are one thing to review.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Change, Reason};

use super::row::{Row, rows};
use super::wording::{Danger, danger, reasons};

/// One change, or the same change of several instances.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    /// The changes, in the order of the plan. Never empty.
    pub members: Vec<Member<'a>>,
}

/// One change of a block.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The change.
    pub change: &'a Change,
    /// What it does attribute by attribute.
    pub rows: Vec<Row>,
}

impl<'a> Block<'a> {
    /// The change that stands for all where they are equal.
    pub fn first(&self) -> &Member<'a> {
        &self.members[0]
    }

    /// How much a reviewer must look at it.
    pub fn danger(&self) -> Danger {
        danger(self.first().change)
    }

    /// The targets of its changes, in their order.
    pub fn targets(&self) -> BTreeSet<&'a str> {
        self.members.iter().map(|m| m.change.target.as_str()).collect()
    }

    /// Are its instances one for each node?
    pub fn is_per_node(&self) -> bool {
        self.members.iter().all(|m| is_node_instance(m.change))
    }

    fn takes(&self, member: &Member) -> bool {
        let (a, b) = (self.first().change, member.change);
        let alike = a.address.resource == b.address.resource
            && a.action == b.action
            && a.moved_from.is_none()
            && b.moved_from.is_none()
            && a.provider == b.provider
            && reasons(a) == reasons(b);
        // The same thing on another node may differ in its attributes, which are then shown for each; anything else must be equal.
        let same_thing = is_node_instance(a) && is_node_instance(b) && a.identity == b.identity;
        alike && (same_thing || self.first().rows == member.rows)
    }
}

fn is_node_instance(change: &Change) -> bool {
    change.address.key.as_deref() == Some(change.target.as_str())
}

/// The blocks of these changes, in the order of their first change.
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block> = Vec::new();
    for change in changes {
        let member = Member { change, rows: rows(change, &immutable(change)) };
        match blocks.iter_mut().find(|block| block.takes(&member)) {
            Some(block) => block.members.push(member),
            None => blocks.push(Block { members: vec![member] }),
        }
    }
    blocks
}

fn immutable(change: &Change) -> BTreeSet<&str> {
    let names = change.reasons.iter().filter_map(|reason| match reason {
        Reason::Immutable { attributes } => Some(attributes.iter().map(String::as_str)),
        _ => None,
    });
    names.flatten().collect()
}

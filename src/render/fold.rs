//! Equal changes of several instances become one block: ten nodes with the same file are one thing to review.

use std::collections::BTreeSet;

use moorfast_engine::plan::Change;

use super::row::{Row, rows};
use super::wording::{Danger, danger, listed, reasons};

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
        self.members.iter().all(|m| is_on_its_node(m.change))
    }

    fn takes(&self, member: &Member) -> bool {
        let (a, b) = (self.first().change, member.change);
        let alike = a.address.resource == b.address.resource
            && a.action == b.action
            && a.moved_from.is_none()
            && b.moved_from.is_none()
            && a.provider == b.provider
            && reasons(a) == reasons(b)
            && listed(a) == listed(b);
        // The same thing on another node may differ as it likes; anything else must be recognisable as the same change.
        let same_thing = is_on_its_node(a) && is_on_its_node(b) && identity(a).is_some() && identity(a) == identity(b);
        alike && (same_thing || self.is_mostly_equal(member))
    }

    /// Do at least as many attributes agree as differ? Those that differ are shown for each instance.
    fn is_mostly_equal(&self, member: &Member) -> bool {
        let known = &self.first().rows;
        let equal = member.rows.iter().filter(|row| known.contains(row)).count();
        2 * equal >= known.len().max(member.rows.len())
    }
}

/// The natural key, with the node's own name left out: a folder for each node is the same thing on each of them.
fn identity(change: &Change) -> Option<String> {
    Some(change.identity.as_ref()?.replace(change.address.key.as_deref()?, "*"))
}

fn is_on_its_node(change: &Change) -> bool {
    change.address.key.as_deref() == Some(change.target.as_str())
}

/// The blocks of these changes, in the order of their first change.
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block> = Vec::new();
    for change in changes {
        let member = Member { change, rows: rows(change, &change.replace_paths().collect()) };
        match blocks.iter_mut().find(|block| block.takes(&member)) {
            Some(block) => block.members.push(member),
            None => blocks.push(Block { members: vec![member] }),
        }
    }
    blocks
}

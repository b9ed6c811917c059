//! Equal changes of several instances become one block: ten nodes with the same file are one thing to review.

use std::collections::BTreeSet;

use moorfast_engine::plan::Change;
use serde_json::Value as Json;

use super::own_name::{OnNode, change_on_node, value_without, without};
use super::row::{Row, rows};
use super::text_diff::changed_lines;
use super::value::is_multi_line;
use super::wording::{Danger, danger, listed, reasons};

/// How many elements of `for_each` on several nodes have a block each, even where they do mostly the same.
const FEW: usize = 8;

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
    /// What each row does, without the instance's own name.
    looks: Vec<Look>,
    /// Why, one line each, without the instance's own name.
    pub reasons: Vec<String>,
    /// The natural key, without the instance's own name.
    pub identity: Option<String>,
}

/// What a row does, without the instance's own name. Rows with equal looks are one thing to review.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// Lines of a text come and go, whatever stands around them.
    Edit(Vec<String>),
    /// A value comes, goes or changes.
    Values(Option<Json>, Option<Json>),
}

impl Look {
    /// Returns the look of `row` on an instance that is called `own`.
    pub fn of(row: &Row, own: &str) -> Self {
        if let (Some(before @ Json::String(old)), Some(after @ Json::String(new))) = (&row.before, &row.after)
            && (is_multi_line(before) || is_multi_line(after))
        {
            return Look::Edit(changed_lines(&without(old, own), &without(new, own)));
        }
        let side = |value: &Option<Json>| value.as_ref().map(|value| value_without(value, own));
        Look::Values(side(&row.before), side(&row.after))
    }
}

impl<'a> Member<'a> {
    fn new(change: &'a Change) -> Self {
        let rows = rows(change, &change.replace_paths().collect());
        let own = own_name(change);
        Self {
            looks: rows.iter().map(|row| Look::of(row, own)).collect(),
            reasons: reasons(change).iter().map(|reason| without(reason, own)).collect(),
            identity: change.identity.as_ref().map(|identity| without(identity, own)),
            rows,
            change,
        }
    }

    /// Returns the row of an attribute, and what it does without the instance's own name.
    pub fn row(&self, path: &str) -> Option<(&Row, &Look)> {
        self.rows.iter().zip(&self.looks).find(|(row, _)| row.path == path)
    }

    /// Returns the instance's own name.
    pub fn own_name(&self) -> &'a str {
        own_name(self.change)
    }

    fn on_node(&self) -> Option<OnNode<'a>> {
        change_on_node(self.change)
    }
}

/// Returns the name by which an instance differs from the others of its resource: its node where it is one of many on nodes, else its key.
fn own_name(change: &Change) -> &str {
    let key = change.address.key.as_deref().unwrap_or_default();
    change_on_node(change).map_or(key, |on| on.node)
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

    /// Returns what all members are if they are the same element on one node each.
    pub fn on_nodes(&self) -> Option<Option<&'a str>> {
        let element = self.first().on_node()?.element;
        let same = |member: &Member| member.on_node().is_some_and(|on| on.element == element);
        self.members.iter().all(same).then_some(element)
    }

    /// Returns the name of a member among the others: its node, or its key.
    pub fn name_of(&self, member: &Member<'a>) -> &'a str {
        match self.on_nodes() {
            Some(_) => member.own_name(),
            None => member.change.address.key.as_deref().unwrap_or_default(),
        }
    }

    /// Whether `member` does the same as the first one, for the same reasons.
    fn is_alike(&self, member: &Member) -> bool {
        let (a, b) = (self.first(), member);
        a.change.address.resource == b.change.address.resource
            && a.change.action == b.change.action
            && a.change.provider == b.change.provider
            && danger(a.change) == danger(b.change)
            && a.reasons == b.reasons
            && listed(a.change) == listed(b.change)
    }

    /// Whether `member` is the same element of the same resource on another node. The same object may differ as it likes; of another one at least as
    /// many attributes must agree as differ.
    fn is_same_on_another_node(&self, member: &Member) -> bool {
        let (Some(a), Some(b)) = (self.first().on_node(), member.on_node()) else { return false };
        let same_object = member.identity.is_some() && self.first().identity == member.identity;
        a.element == b.element
            && self.is_alike(member)
            && (same_object || self.is_mostly(member, |m| m.looks.as_slice()))
    }

    /// Whether at least as many attributes agree as differ. Those that differ are shown for each instance.
    fn is_mostly_equal(&self, member: &Member) -> bool {
        self.is_alike(member) && self.is_mostly(member, |m| m.rows.as_slice())
    }

    fn is_mostly<T: PartialEq>(&self, member: &Member<'a>, parts: impl for<'m> Fn(&'m Member<'a>) -> &'m [T]) -> bool {
        let (known, new) = (parts(self.first()), parts(member));
        let equal = new.iter().filter(|part| known.contains(part)).count();
        2 * equal >= known.len().max(new.len())
    }
}

/// The blocks of these changes, in the order of their first change.
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block> = Vec::new();
    for change in changes {
        let member = Member::new(change);
        match blocks.iter_mut().find(|block| block.is_same_on_another_node(&member)) {
            Some(block) => block.members.push(member),
            None => blocks.push(Block { members: vec![member] }),
        }
    }
    joined(blocks)
}

/// Joins the blocks of several elements of `for_each` that do mostly the same: those of one instance each, and those that are many.
fn joined(blocks: Vec<Block>) -> Vec<Block> {
    let mut groups: Vec<Vec<Block>> = Vec::new();
    for block in blocks {
        match groups.iter_mut().find(|group| group[0].is_mostly_equal(block.first())) {
            Some(group) => group.push(block),
            None => groups.push(vec![block]),
        }
    }
    groups.into_iter().flat_map(join).collect()
}

fn join(group: Vec<Block>) -> Vec<Block> {
    let is_of_many_nodes = group.iter().any(|block| block.members.len() > 1);
    match group.len() <= FEW && is_of_many_nodes {
        true => group,
        false => vec![Block { members: group.into_iter().flat_map(|block| block.members).collect() }],
    }
}

//! Folding of equal changes: the same change of several instances becomes one block, so that it is reviewed once.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use moorfast_engine::model::{Address, ResourceAddress};
use moorfast_engine::plan::Change;
use serde_json::Value as Json;

use super::instance_name::{OnNode, change_on_node, value_without, without};
use super::row::{Row, rows};
use super::text_diff::changed_lines;
use super::value::is_multi_line;
use super::wording::{Danger, danger, listed, reasons};

/// Maximum number of `for_each` elements on several nodes that have one block each, even if their changes are mostly equal.
const FEW: usize = 8;
/// Maximum number of different changes of a resource with which a further change is compared, so that thousands of different ones are not compared with each other.
const COMPARED: usize = 64;

/// A change, or the same change of several instances.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    /// The changes, in the order of the plan. Never empty.
    pub members: Vec<Member<'a>>,
}

/// A change in a block.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The change.
    pub change: &'a Change,
    /// The changed attributes.
    pub rows: Vec<Row>,
    /// The difference of each row, with the instance name replaced by a placeholder.
    differences: Vec<Difference>,
    /// The reasons, one line each, with the instance name replaced by a placeholder.
    pub reasons: Vec<String>,
    /// The identity, with the instance name replaced by a placeholder.
    pub identity: Option<String>,
}

/// The difference of a row, with the instance name replaced by a placeholder, so that equal changes of several instances compare equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// The added and removed lines of a text, without their context.
    Edit(Vec<String>),
    /// The value before and after.
    Values(Option<Json>, Option<Json>),
}

impl Difference {
    /// Returns the difference of `row` on the instance named `name`.
    pub fn of(row: &Row, name: &str) -> Self {
        if let (Some(before @ Json::String(old)), Some(after @ Json::String(new))) = (&row.before, &row.after)
            && (is_multi_line(before) || is_multi_line(after))
        {
            return Difference::Edit(changed_lines(&without(old, name), &without(new, name)));
        }
        let side = |value: &Option<Json>| value.as_ref().map(|value| value_without(value, name));
        Difference::Values(side(&row.before), side(&row.after))
    }
}

impl<'a> Member<'a> {
    fn new(change: &'a Change) -> Self {
        let rows = rows(change, &change.replace_paths().collect());
        let name = instance_name(change);
        Self {
            differences: rows.iter().map(|row| Difference::of(row, name)).collect(),
            reasons: reasons(change).iter().map(|reason| without(&without_module_keys(reason, change), name)).collect(),
            identity: change.identity.as_ref().map(|identity| without(identity, name)),
            rows,
            change,
        }
    }

    /// Returns the row of an attribute, with its difference.
    pub fn row(&self, path: &str) -> Option<(&Row, &Difference)> {
        self.rows.iter().zip(&self.differences).find(|(row, _)| row.path == path)
    }

    /// Returns the name of the instance among those of its resource.
    pub fn instance_name(&self) -> &'a str {
        instance_name(self.change)
    }

    fn on_node(&self) -> Option<OnNode<'a>> {
        change_on_node(self.change)
    }
}

/// Removes the keys of the change's own module from the addresses in `text`.
fn without_module_keys(text: &str, change: &Change) -> String {
    let module = &change.address.resource.module;
    if module.is_root() {
        return text.to_owned();
    }
    text.replace(&module.to_string(), &module.without_keys().to_string())
}

/// Returns the name of an instance among those of its resource: its node if it is on a node, otherwise its key.
fn instance_name(change: &Change) -> &str {
    let key = change.address.key.as_deref().unwrap_or_default();
    change_on_node(change).map_or(key, |on| on.node)
}

impl<'a> Block<'a> {
    /// Returns the first member, which represents all others.
    pub fn first(&self) -> &Member<'a> {
        &self.members[0]
    }

    /// Returns the danger of its changes.
    pub fn danger(&self) -> Danger {
        danger(self.first().change)
    }

    /// Returns the targets of its changes, sorted.
    pub fn targets(&self) -> BTreeSet<&'a str> {
        self.members.iter().map(|m| m.change.target.as_str()).collect()
    }

    /// Whether all members are instances of one resource. Otherwise they are in several instances of a module.
    fn is_of_one_resource(&self) -> bool {
        let resource = &self.first().change.address.resource;
        self.members.iter().all(|member| member.change.address.resource == *resource)
    }

    /// Returns the address of the resource. If the members are in several instances of a module, the path has no keys.
    pub fn resource(&self) -> Cow<'a, ResourceAddress> {
        let resource = &self.first().change.address.resource;
        if self.is_of_one_resource() { Cow::Borrowed(resource) } else { Cow::Owned(resource.without_module_keys()) }
    }

    /// Returns the element of all members, if they are the same element on different nodes.
    pub fn on_nodes(&self) -> Option<Option<&'a str>> {
        let element = self.first().on_node().filter(|_| self.is_of_one_resource())?.element;
        let same = |member: &Member| member.on_node().is_some_and(|on| on.element == element);
        self.members.iter().all(same).then_some(element)
    }

    /// Returns the name of each member among the others: its node, or its key, after the keys of its module if these differ.
    pub fn names(&self) -> Vec<Cow<'a, str>> {
        let (are_nodes, are_keys) = (self.on_nodes().is_some(), self.is_of_one_resource());
        let name = |member: &Member<'a>| {
            let Address { resource, key } = &member.change.address;
            if are_nodes {
                return Cow::Borrowed(member.instance_name());
            }
            if are_keys {
                return Cow::Borrowed(key.as_deref().unwrap_or_default());
            }
            let keys = resource.module.steps().iter().filter_map(|step| step.key.as_deref()).chain(key.as_deref());
            Cow::Owned(keys.collect::<Vec<_>>().join("/"))
        };
        self.members.iter().map(name).collect()
    }

    /// Returns whether `member` is of the same block of the manifest as the first member, and has the same action for the same reasons.
    fn is_alike(&self, member: &Member) -> bool {
        let (a, b) = (self.first(), member);
        let block = |member: &Member| member.change.address.resource.without_module_keys();
        a.change.address.resource.has_same_type(&b.change.address.resource)
            && block(a) == block(b)
            && a.change.action == b.change.action
            && a.change.provider == b.change.provider
            && danger(a.change) == danger(b.change)
            && a.reasons == b.reasons
            && listed(a.change) == listed(b.change)
    }

    /// Returns whether `member` is the same element of the same resource on another node. If the object is another one, at least half of its
    /// attributes must be equal.
    fn is_same_on_another_node(&self, member: &Member) -> bool {
        let (Some(a), Some(b)) = (self.first().on_node(), member.on_node()) else { return false };
        let same_object = member.identity.is_some() && self.first().identity == member.identity;
        a.element == b.element
            && self.first().change.address.resource == member.change.address.resource
            && self.is_alike(member)
            && (same_object || self.is_mostly(member, |m| m.differences.as_slice()))
    }

    /// Returns whether at least half of the attributes are equal. The others are shown for each instance.
    fn is_mostly_equal(&self, member: &Member) -> bool {
        self.is_alike(member) && self.is_mostly(member, |m| m.rows.as_slice())
    }

    fn is_mostly<T: PartialEq>(&self, member: &Member<'a>, parts: impl for<'m> Fn(&'m Member<'a>) -> &'m [T]) -> bool {
        let (known, new) = (parts(self.first()), parts(member));
        let equal = new.iter().filter(|part| known.contains(part)).count();
        2 * equal >= known.len().max(new.len())
    }
}

/// Returns the blocks of these changes, in the order of their first change.
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Only the blocks of the same element are compared, because a plan can have thousands of others.
    let mut of_element: HashMap<_, Vec<usize>> = HashMap::new();
    for change in changes {
        let member = Member::new(change);
        let element = member.on_node().map_or(change.address.key.as_deref(), |on| on.element);
        let known = of_element.entry((&change.address.resource, element)).or_default();
        match known.iter().take(COMPARED).find(|index| blocks[**index].is_same_on_another_node(&member)) {
            Some(index) => blocks[*index].members.push(member),
            None => {
                known.push(blocks.len());
                blocks.push(Block { members: vec![member] });
            }
        }
    }
    joined(blocks)
}

/// Joins blocks of several `for_each` elements of a resource or of its module with mostly equal changes: blocks of a single instance, and blocks if there are many of them.
fn joined(blocks: Vec<Block>) -> Vec<Block> {
    let mut groups: Vec<Vec<Block>> = Vec::new();
    let mut of_resource: HashMap<ResourceAddress, Vec<usize>> = HashMap::new();
    for block in blocks {
        let resource = block.first().change.address.resource.without_module_keys();
        let known = of_resource.entry(resource).or_default();
        match known.iter().take(COMPARED).find(|index| groups[**index][0].is_mostly_equal(block.first())) {
            Some(index) => groups[*index].push(block),
            None => {
                known.push(groups.len());
                groups.push(vec![block]);
            }
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

//! The inventory: the nodes that the blocks `[nodes.NAME]` define.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::node_attributes::{Evaluated, node, unknown_attribute};
use super::selectors::{each_value, for_each_members, has_unknown_keys, named_in, unknown_for_each};
use super::{Manifest, NodeBlock, StaticScope};
use crate::expression::{Expr, Files, Reference, Scope as ReferenceScope, Unresolved};
use crate::model::convert::to_text;
use crate::model::{Diagnostic, Node, NodeName, Span, Value, error_codes, suggest};

/// The nodes of a manifest in the order of the manifest. The nodes of a block with `for_each` have the order of its elements.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    nodes: Vec<Arc<Node>>,
    origins: BTreeMap<NodeName, Origin>,
    /// The nodes of each block with `for_each`.
    groups: BTreeMap<String, Vec<Arc<Node>>>,
    /// Why nodes are missing: their block depends on unknown values.
    open: Vec<Diagnostic>,
}

/// The block that defines a node, and the element of its `for_each`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of the block: `worker` for `[nodes.worker]`.
    pub block: String,
    /// The key of the element. `None` for a block without `for_each`.
    pub element: Option<String>,
    /// The place of the block.
    pub span: Span,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.element {
            Some(key) => write!(f, "nodes.{}[{}]", self.block, serde_json::Value::from(key.as_str())),
            None => write!(f, "nodes.{}", self.block),
        }
    }
}

impl Origin {
    /// Returns the node in messages.
    fn subject(&self) -> String {
        match &self.element {
            Some(_) => format!("`{self}`"),
            None => format!("the node `{}`", self.block),
        }
    }
}

impl Inventory {
    /// Returns the nodes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter()
    }

    /// Whether all nodes are known. Otherwise the manifest depends on data that is not read.
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the reasons why nodes are missing.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Diagnostic> {
        self.open.iter()
    }

    /// Returns the block and the element that define a node.
    pub fn origin(&self, name: &NodeName) -> Option<&Origin> {
        self.origins.get(name)
    }

    /// Returns the node with this name, or the nodes of the block with this name and with `for_each`.
    pub fn named(&self, name: &str) -> Option<&[Arc<Node>]> {
        if let Some(group) = self.groups.get(name) {
            return Some(group);
        }
        self.nodes.iter().find(|node| node.name.0 == name).map(std::slice::from_ref)
    }

    /// Returns the error for a name that [`Inventory::named`] does not know.
    pub(crate) fn unknown(&self, name: &str, span: Span) -> Diagnostic {
        let groups = self.groups.keys().map(String::as_str);
        let is_role = self.nodes.iter().any(|node| node.roles.iter().any(|role| role == name));
        let help = match is_role {
            true => Some(format!("`{name}` is a role: write {{ role = \"{name}\" }}")),
            false => suggest(name, self.nodes.iter().map(|node| node.name.0.as_str()).chain(groups)),
        };
        Diagnostic {
            help,
            ..Diagnostic::error(format!("unknown node `{name}`")).code(error_codes::UNKNOWN_NODE).at(span, "")
        }
    }

    /// Returns the errors for nodes with the name of a block that has other nodes too.
    fn ambiguous_names(&self) -> Vec<Diagnostic> {
        let ambiguous = self.nodes.iter().filter_map(|node| {
            let group = self.groups.get(&node.name.0)?;
            let origin = self.origin(&node.name)?;
            let is_alone = matches!(group.as_slice(), [only] if only.name == node.name);
            let summary = format!("the node `{origin}` has the name of the block `nodes.{}`", node.name);
            let error = || {
                Diagnostic::error(summary).at(origin.span, "").help(format!(
                    "rename the node or the block, because `on = \"{}\"` selects all nodes of the block",
                    node.name
                ))
            };
            (!is_alone).then(error)
        });
        ambiguous.collect()
    }

    fn insert(&mut self, node: Node, origin: Origin) {
        let node = Arc::new(node);
        if origin.element.is_some() {
            self.groups.entry(origin.block.clone()).or_default().push(node.clone());
        }
        self.origins.insert(node.name.clone(), origin);
        self.nodes.push(node);
    }
}

/// Evaluates the nodes of the manifest. The files of a folder are ordered by name.
///
/// # Errors
/// Returns all errors in the nodes.
pub fn evaluate_inventory(manifest: &Manifest, scope: &StaticScope) -> Result<Inventory, Vec<Diagnostic>> {
    let (mut inventory, mut failures) = (Inventory::default(), Failures::default());
    let mut blocks: Vec<_> = manifest.nodes.iter().collect();
    blocks.sort_by_key(|(_, block)| block.span);
    for (name, block) in blocks {
        let origin = |element| Origin { block: name.clone(), element, span: block.span };
        let elements = match &block.for_each {
            None => vec![None],
            Some(for_each) => {
                inventory.groups.insert(name.clone(), Vec::new());
                match elements(for_each, block, scope) {
                    Ok(Some(elements)) => elements.into_iter().map(Some).collect(),
                    Ok(None) => {
                        inventory.open.push(unknown_for_each(for_each, named_in(for_each)));
                        continue;
                    }
                    Err(errors) => {
                        failures.errors.extend(errors.into_iter().map(|error| (error, 0)));
                        continue;
                    }
                }
            }
        };
        for element in elements {
            let origin = origin(element.as_ref().map(|(key, _)| key.clone()));
            match evaluate_node(block, &origin, element, scope) {
                Ok(Evaluated::Open(reason)) => inventory.open.push(reason),
                Ok(Evaluated::Node(node)) => match inventory.origins.get(&node.name) {
                    Some(first) => failures.add_duplicate(&node.name, first, &origin),
                    None => inventory.insert(node, origin),
                },
                Err(errors) => failures.add(&origin, errors),
            }
        }
    }
    let mut errors = failures.into_errors();
    errors.extend(inventory.ambiguous_names());
    if errors.is_empty() { Ok(inventory) } else { Err(errors) }
}

/// Returns the elements of `for_each`, or `None` if they are unknown. The key of a map in a list is its position.
fn elements(
    for_each: &Expr,
    block: &NodeBlock,
    scope: &dyn ReferenceScope,
) -> Result<Option<Vec<(String, Value)>>, Vec<Diagnostic>> {
    match for_each.evaluate(scope)? {
        value if has_unknown_keys(&value) => Ok(None),
        Value::List(items) if !items.is_empty() && items.iter().all(|item| matches!(item, Value::Map(_))) => {
            if block.name.is_none() {
                let error = Diagnostic::error("the nodes of a list of maps need a `name`").at(for_each.span, "");
                return Err(vec![error.help("add an attribute of the elements, as in name = \"${each.value.name}\"")]);
            }
            Ok(Some(items.into_iter().enumerate().map(|(position, item)| (position.to_string(), item)).collect()))
        }
        value => for_each_members(for_each, value).map(Some),
    }
}

fn evaluate_node(
    block: &NodeBlock,
    origin: &Origin,
    element: Option<(String, Value)>,
    scope: &StaticScope,
) -> Result<Evaluated, Vec<Diagnostic>> {
    let subject = origin.subject();
    let Some((key, value)) = element else { return node(&origin.block, &subject, block, scope) };
    let each = Arc::new(each_value(Value::from(key.as_str()), value));
    let scope = ElementScope { outer: scope, each };
    let (name, span) = match (&block.name, &block.for_each) {
        (Some(name), _) => (name.evaluate(&scope)?, name.span),
        (None, for_each) => (Value::from(key), for_each.as_ref().map_or(block.span, |for_each| for_each.span)),
    };
    let error = |summary: String, label: &str| Err(vec![Diagnostic::error(summary).at(span, label)]);
    if name.is_sensitive() {
        return error(format!("the name of {subject} is sensitive"), "plans and messages show it");
    }
    if name.is_unknown() {
        return Ok(Evaluated::Open(unknown_attribute("name", &subject, span)));
    }
    match to_text(&name) {
        Some(name) if NodeName::is_valid(&name) => node(&name, &subject, block, &scope),
        Some(name) => error(
            format!("`{name}` is not a valid name of a node: {subject}"),
            "a name consists of letters, digits, `-`, `_` and `.`",
        ),
        None => error(
            format!("the name of {subject} is not valid"),
            &format!("must be a string, not a {}", name.type_name()),
        ),
    }
}

/// The scope of the attributes of one element of `for_each`.
struct ElementScope<'s> {
    outer: &'s StaticScope<'s>,
    each: Arc<Value>,
}

impl ReferenceScope for ElementScope<'_> {
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        match reference {
            Reference::Each => Ok(self.each.clone()),
            other => self.outer.resolve(other),
        }
    }

    fn files(&self) -> &Files {
        self.outer.files()
    }
}

/// The errors of an inventory. The same error of many elements is one error with the number of the others.
#[derive(Default)]
struct Failures {
    errors: Vec<(Diagnostic, usize)>,
    /// The index in `errors` by place and by message without the element.
    seen: HashMap<(Option<Span>, String), usize>,
}

impl Failures {
    /// Adds the errors of a node.
    fn add(&mut self, origin: &Origin, errors: Vec<Diagnostic>) {
        let subject = origin.subject();
        for error in errors {
            let summary = error.summary.replace(&subject, "");
            let names_it = origin.element.is_none() || summary != error.summary;
            let named = if names_it { error.summary } else { format!("{subject}: {summary}") };
            self.count(summary, Diagnostic { summary: named, ..error });
        }
    }

    /// Adds the error for a second node of the same name.
    fn add_duplicate(&mut self, name: &NodeName, first: &Origin, second: &Origin) {
        let summary = format!("two nodes have the name `{name}`: `{first}` and `{second}`");
        let error = Diagnostic::error(summary).at(second.span, "second node").related(first.span, "first node");
        self.count(format!("{} {}", first.block, second.block), error.help("rename one of them, or remove it"));
    }

    fn count(&mut self, kind: String, error: Diagnostic) {
        let place = error.at.as_ref().map(|(span, _)| *span);
        match self.seen.entry((place, kind)) {
            Entry::Occupied(known) => self.errors[*known.get()].1 += 1,
            Entry::Vacant(new) => {
                new.insert(self.errors.len());
                self.errors.push((error, 0));
            }
        }
    }

    fn into_errors(self) -> Vec<Diagnostic> {
        let counted = |(error, others): (Diagnostic, usize)| match others {
            0 => error,
            1 => Diagnostic { summary: format!("{} (and one more element)", error.summary), ..error },
            _ => Diagnostic { summary: format!("{} (and {others} more elements)", error.summary), ..error },
        };
        self.errors.into_iter().map(counted).collect()
    }
}

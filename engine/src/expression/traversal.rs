//! The reference at the head of a traversal: `var.x`, `ssh_file.motd["gpu01"]`.

use hcl::edit::Decorated;
use hcl::edit::expr::{Expression, TraversalOperator};

use super::{Reference, Unresolved};
use crate::model::{ResourceAddress, nearest};

/// The reserved names at the head of a traversal.
pub(crate) const ROOTS: [&str; 12] =
    ["var", "local", "node", "nodes", "each", "self", "plan", "path", "environment", "moorfast", "data", "module"];

/// Returns the reference of `root` and the first `operators`, and the number of operators that it uses.
pub(super) fn reference(
    root: &str,
    operators: &[Decorated<TraversalOperator>],
) -> Result<(Reference, usize), Unresolved> {
    let name = |at: usize| operators.get(at).and_then(|operator| attribute(operator));
    let incomplete = |example: &str| {
        Unresolved::new(format!("`{root}` alone is not a value")).help(format!("name a member, as in `{example}`"))
    };
    Ok(match root {
        "var" => (Reference::Variable(name(0).ok_or_else(|| incomplete("var.region"))?), 1),
        "local" => (Reference::Local(name(0).ok_or_else(|| incomplete("local.region"))?), 1),
        "node" => (Reference::Node, 0),
        "nodes" => (Reference::Nodes, 0),
        "each" => (Reference::Each, 0),
        "self" => (Reference::This, 0),
        "plan" => (Reference::Plan, 0),
        "path" => (Reference::Path, 0),
        "environment" => (Reference::Environment, 0),
        "moorfast" => (Reference::Moorfast, 0),
        "data" => {
            let example = "data.ssh_facts.all";
            let resource_type = name(0).ok_or_else(|| incomplete(example))?;
            let resource = ResourceAddress::data(resource_type, name(1).ok_or_else(|| incomplete(example))?);
            instance(resource, operators, 2)
        }
        "module" => module(name(0).ok_or_else(|| incomplete("module.web.address"))?, operators),
        resource_type => {
            let name = name(0).ok_or_else(|| unknown_root(resource_type))?;
            instance(ResourceAddress::managed(resource_type, name), operators, 1)
        }
    })
}

/// Returns the reference to `resource`, whose address uses `taken` operators, with the index that may follow.
fn instance(resource: ResourceAddress, operators: &[Decorated<TraversalOperator>], taken: usize) -> (Reference, usize) {
    let reference = |key, any| Reference::Resource { resource: resource.clone(), key, any };
    match operators.get(taken).map(Decorated::value) {
        Some(TraversalOperator::Index(index)) => match literal_key(index) {
            Some(key) => (reference(Some(key), false), taken + 1),
            None => (reference(None, true), taken),
        },
        _ => (reference(None, false), taken),
    }
}

/// Returns the reference to the module `name`, with the index and the output that may follow.
fn module(name: String, operators: &[Decorated<TraversalOperator>]) -> (Reference, usize) {
    let output = |at: usize| operators.get(at).and_then(|operator| attribute(operator));
    let (key, any, start) = match operators.get(1).map(Decorated::value) {
        Some(TraversalOperator::Index(index)) => match literal_key(index) {
            Some(key) => (Some(key), false, 2),
            None => return (Reference::Module { name, key: None, any: true, output: output(2) }, 1),
        },
        _ => (None, false, 1),
    };
    let output = output(start);
    let taken = start + usize::from(output.is_some());
    (Reference::Module { name, key, any, output }, taken)
}

fn literal_key(index: &Expression) -> Option<String> {
    match index {
        Expression::String(text) => Some(text.as_str().to_owned()),
        Expression::Number(number) => Some(number.value().to_string()),
        Expression::Parenthesis(inner) => literal_key(inner.inner()),
        _ => None,
    }
}

fn attribute(operator: &TraversalOperator) -> Option<String> {
    match operator {
        TraversalOperator::GetAttr(name) => Some(name.as_str().to_owned()),
        _ => None,
    }
}

fn unknown_root(root: &str) -> Unresolved {
    let help = match nearest(root, ROOTS) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!(
            "a reference is `var.NAME`, `local.NAME`, `node.address` or `TYPE.NAME`; write `$${{{root}}}` for the literal text `${{{root}}}`"
        ),
    };
    Unresolved::new(format!("`{root}` is not a known name")).help(help)
}

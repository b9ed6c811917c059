//! Evaluation of the selectors `on` and `for_each`.

use std::collections::HashSet;
use std::sync::Arc;

use super::Inventory;
use crate::expression::{Expr, Reference, Scope as ReferenceScope};
use crate::model::convert::to_text;
use crate::model::diagnostic::quoted_list;
use crate::model::{Diagnostic, Node, NodeName, Span, Value, ValueMap, error_codes, nearest, suggest};

/// Returns the nodes that `on` selects, in the order of the inventory, and a warning if it selects none.
///
/// # Errors
/// Returns an error if `on` is not a valid selector, or if it names an unknown node or a role that no node has.
pub fn select_nodes(
    on: &Expr,
    scope: &dyn ReferenceScope,
    inventory: &Inventory,
) -> Result<(Vec<NodeName>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let value = on.evaluate(scope)?;
    let error = |summary: &str, help: &str| vec![Diagnostic::error(summary).at(on.span, "").help(help)];
    if value.is_unknown() || value.is_retained() || value.is_sensitive() {
        return Err(error(
            "`on` must be known and not sensitive",
            "the selection of nodes cannot depend on resources or secrets",
        ));
    }
    let mut warnings = Vec::new();
    let selected = match &value {
        Value::String(all) if all == "all" => inventory.iter().collect(),
        Value::String(_) => named(std::slice::from_ref(&value), on.span, inventory)?,
        Value::List(names) => named(names, on.span, inventory)?,
        Value::Map(map) => with_roles(map, on.span, inventory)?,
        _ => {
            return Err(error(
                "`on` is not a valid selection of nodes",
                "write { role = \"worker\" }, a node name, a list of node names or \"all\"",
            ));
        }
    };
    if selected.is_empty() && value.as_map().is_none() {
        warnings.push(Diagnostic::warning("`on` selects no nodes, so the block has no instances").at(on.span, ""));
    }
    Ok((selected.into_iter().map(|node| node.name.clone()).collect(), warnings))
}

/// Returns the nodes with these names. The name of a block with `for_each` stands for all its nodes.
fn named<'n>(names: &[Value], span: Span, inventory: &'n Inventory) -> Result<Vec<&'n Arc<Node>>, Vec<Diagnostic>> {
    let mut wanted = HashSet::new();
    for name in names {
        let Some(name) = name.as_str() else {
            return Err(vec![Diagnostic::error("`on` must be a list of node names").at(span, "")]);
        };
        let Some(nodes) = inventory.named(name) else { return Err(vec![inventory.unknown(name, span)]) };
        wanted.extend(nodes.iter().map(|node| &node.name));
    }
    Ok(inventory.iter().filter(|node| wanted.contains(&node.name)).collect())
}

/// Returns the nodes with any role of `{ role = … }` or `{ roles = […] }`. A role that no node has is an error, unless `allow_empty` is true.
fn with_roles<'n>(
    selector: &ValueMap,
    span: Span,
    inventory: &'n Inventory,
) -> Result<Vec<&'n Arc<Node>>, Vec<Diagnostic>> {
    const KEYS: [&str; 3] = ["role", "roles", "allow_empty"];
    if let Some(unknown) = selector.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let diagnostic = Diagnostic::error(format!("unknown attribute `{unknown}` in `on`")).at(span, "");
        return Err(vec![Diagnostic { help: suggest(unknown, KEYS), ..diagnostic }]);
    }
    let allow_empty = match selector.get("allow_empty").map(crate::model::convert::to_bool) {
        Some(None) => return Err(vec![Diagnostic::error("`allow_empty` of `on` must be true or false").at(span, "")]),
        allowed => allowed.flatten().unwrap_or(false),
    };
    let roles = roles(selector, span)?;
    let mut known: Vec<&str> = inventory.iter().flat_map(|node| &node.roles).map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let unknown: Vec<&str> = roles.iter().map(String::as_str).filter(|role| !known.contains(role)).collect();
    if let Some(first) = unknown.first().filter(|_| !allow_empty) {
        let diagnostic = Diagnostic::error(format!("no node has the role {}", quoted_list(&unknown)))
            .code(error_codes::UNKNOWN_ROLE);
        let permit = "add `allow_empty = true` to `on` if the role may have no nodes";
        let help = match nearest(first, known.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`? Otherwise {permit}"),
            None => permit.to_owned(),
        };
        return Err(vec![diagnostic.at(span, "").help(help)]);
    }
    Ok(inventory.iter().filter(|node| node.roles.iter().any(|role| roles.contains(role))).collect())
}

/// Returns the roles of a selector.
fn roles(selector: &ValueMap, span: Span) -> Result<Vec<String>, Vec<Diagnostic>> {
    let values = ["role", "roles"].into_iter().filter_map(|key| selector.get(key));
    let roles: Option<Vec<String>> = values
        .flat_map(|value| match value {
            Value::List(items) => items.clone(),
            single => vec![single.clone()],
        })
        .map(|role| role.as_str().map(str::to_owned))
        .collect();
    match roles {
        Some(roles) if roles.is_empty() => {
            let error = Diagnostic::error("`on` has an empty list of roles").at(span, "");
            Err(vec![error.help("write { role = \"worker\" }, or \"all\" for every node")])
        }
        Some(roles) => Ok(roles),
        None => Err(vec![Diagnostic::error("the roles in `on` must be strings").at(span, "")]),
    }
}

/// Returns the value of `each` for an element of `for_each`.
pub(crate) fn each_value(key: Value, value: Value) -> Value {
    Value::Map([("key".to_owned(), key), ("value".to_owned(), value)].into())
}

/// Whether the keys of this value of `for_each` are unknown.
pub(crate) fn has_unknown_keys(value: &Value) -> bool {
    match value {
        Value::Unknown | Value::Retained => true,
        Value::List(items) => items.iter().any(|item| item.is_unknown() || item.is_retained()),
        _ => false,
    }
}

/// Returns the error for `for_each` whose keys are unknown, because of these resources and data sources.
pub(crate) fn unknown_for_each(for_each: &Expr, resources: impl Iterator<Item = String>) -> Diagnostic {
    let resources: Vec<String> = resources.collect();
    let of = if resources.is_empty() {
        String::new()
    } else {
        format!(": it depends on {}", quoted_list(&resources.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let help = "the keys of `for_each` must be known when the plan is made: take them from variables or locals";
    Diagnostic::error(format!("`for_each` is known only after apply{of}"))
        .code(error_codes::UNKNOWN_FOR_EACH)
        .at(for_each.span, "")
        .help(help)
}

/// Returns the resources and data sources that an expression names, and the outputs of modules.
pub(crate) fn named_in(expr: &Expr) -> impl Iterator<Item = String> {
    expr.references().into_iter().filter_map(|(reference, _)| match reference {
        Reference::Resource { resource, .. } => Some(resource.to_string()),
        Reference::Module { name, output: None, .. } => Some(format!("module.{name}")),
        Reference::Module { name, output: Some(output), .. } => Some(format!("module.{name}.{output}")),
        _ => None,
    })
}

/// Returns the keys in the value of `for_each` with their values, in order.
///
/// # Errors
/// Returns an error if the value is neither a list of strings nor a map, is known only after apply, or is sensitive.
pub(crate) fn for_each_members(for_each: &Expr, value: Value) -> Result<Vec<(String, Value)>, Vec<Diagnostic>> {
    let error = |summary: String, help: &str| vec![Diagnostic::error(summary).at(for_each.span, "").help(help)];
    let secret = || {
        error(
            "`for_each` is sensitive".to_owned(),
            "its keys become part of addresses, which are shown: use nonsensitive() if they are not secret",
        )
    };
    match value {
        value if has_unknown_keys(&value) => Err(vec![unknown_for_each(for_each, named_in(for_each))]),
        Value::Sensitive(_) => Err(secret()),
        Value::Map(map) => Ok(map.into_iter().collect()),
        Value::List(items) if items.iter().any(Value::is_sensitive) => Err(secret()),
        Value::List(items) => {
            let keys: Option<Vec<String>> = items.iter().map(to_text).collect();
            let keys = keys.ok_or_else(|| {
                error(
                    "`for_each` must be a list of strings or a map".to_owned(),
                    "convert a list of tables with { for item in LIST : item.name => item }",
                )
            })?;
            let mut seen = HashSet::new();
            match keys.iter().find(|key| !seen.insert(*key)) {
                Some(key) => {
                    Err(error(format!("`for_each` has the key `{key}` twice"), "each instance needs its own key"))
                }
                None => Ok(keys.into_iter().map(|key| (key.clone(), Value::String(key))).collect()),
            }
        }
        other => {
            let summary = format!("`for_each` must be a list of strings or a map, not a {}", other.type_name());
            Err(error(summary, "the block has one instance for each member"))
        }
    }
}

//! Evaluation of the inventory (`[nodes.*]`) and of the selectors `on` and `for_each`.

use std::collections::BTreeMap;

use super::{Manifest, NodeBlock, StaticScope};
use crate::expression::{Expr, Files, Reference, Scope as ReferenceScope};
use crate::model::convert::to_text;
use crate::model::diagnostic::quoted_list;
use crate::model::{Diagnostic, Node, NodeName, Span, Transport, Value, nearest, suggest};

/// Returns the nodes of the manifest in the order of the manifest. The files of a folder are ordered by name.
///
/// # Errors
/// Returns all errors in the nodes.
pub fn evaluate_inventory(
    manifest: &Manifest,
    variables: &BTreeMap<String, Value>,
    files: &Files,
) -> Result<Vec<Node>, Vec<Diagnostic>> {
    let scope = StaticScope::new(manifest, variables, files);
    let (mut nodes, mut errors) = (Vec::new(), Vec::new());
    let mut blocks: Vec<_> = manifest.nodes.iter().collect();
    blocks.sort_by_key(|(_, block)| block.span);
    for (name, block) in blocks {
        match node(name, block, &scope) {
            Ok(node) => nodes.push(node),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(nodes) } else { Err(errors) }
}

/// Returns the value of `node` in an expression, and of each member of `nodes`.
pub fn node_value(node: &Node) -> Value {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let members = [
        ("name", Value::from(node.name.0.as_str())),
        ("address", Value::from(node.address.as_str())),
        ("user", text(&node.user)),
        ("port", node.port.map_or(Value::Null, |port| Value::from(i64::from(port)))),
        ("roles", Value::from(node.roles.clone())),
        ("vars", Value::Map(node.vars.clone())),
        ("host_keys", Value::from(node.host_keys.clone())),
    ];
    Value::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The evaluated attributes of one node.
struct Fields<'b> {
    name: &'b str,
    values: BTreeMap<&'b str, (Value, Span)>,
    errors: Vec<Diagnostic>,
}

fn node(name: &str, block: &NodeBlock, scope: &dyn ReferenceScope) -> Result<Node, Vec<Diagnostic>> {
    let mut fields = Fields { name, values: BTreeMap::new(), errors: Vec::new() };
    for (attribute, _, expr) in &block.attributes {
        match expr.evaluate(scope) {
            Ok(Value::Null) => {}
            Ok(value) => {
                fields.values.insert(attribute, (value, expr.span));
            }
            Err(errors) => fields.errors.extend(errors),
        }
    }
    let transport = fields.transport();
    let node = Node {
        name: NodeName(name.to_owned()),
        address: fields.text("address").unwrap_or_else(|| name.to_owned()),
        user: fields.text("user"),
        port: fields.port(),
        identity_file: fields.text("identity_file"),
        jump: fields.texts("jump"),
        host_keys: fields.host_keys(),
        transport,
        sudo: fields.flag("sudo").unwrap_or(transport == Transport::Ssh),
        roles: fields.texts("roles"),
        vars: fields.vars(),
    };
    if fields.errors.is_empty() { Ok(node) } else { Err(fields.errors) }
}

impl Fields<'_> {
    /// Removes an attribute and returns it. A sensitive one is an error, because plans and messages show it.
    fn take(&mut self, attribute: &'static str) -> Option<(Value, Span)> {
        let (value, span) = self.values.remove(attribute)?;
        if value.is_sensitive() {
            let summary = format!("`{attribute}` of the node `{}` is sensitive", self.name);
            self.errors
                .push(Diagnostic::error(summary).at(span, "plans and messages show it; only `vars` can be sensitive"));
            return None;
        }
        Some((value, span))
    }

    fn invalid(&mut self, attribute: &str, span: Span, expected: &str) {
        let summary = format!("`{attribute}` of the node `{}` is not valid", self.name);
        self.errors.push(Diagnostic::error(summary).at(span, format!("must be {expected}")));
    }

    fn text(&mut self, attribute: &'static str) -> Option<String> {
        let (value, span) = self.take(attribute)?;
        let text = to_text(&value).filter(|text| !text.is_empty());
        if text.is_none() {
            self.invalid(attribute, span, "a string");
        }
        text
    }

    fn texts(&mut self, attribute: &'static str) -> Vec<String> {
        let Some((value, span)) = self.take(attribute) else { return Vec::new() };
        let texts = match &value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::List(items) => items.iter().map(to_text).collect(),
            _ => None,
        };
        if texts.is_none() {
            self.invalid(attribute, span, "a list of strings");
        }
        texts.unwrap_or_default()
    }

    fn flag(&mut self, attribute: &'static str) -> Option<bool> {
        let (value, span) = self.take(attribute)?;
        let flag = crate::model::convert::to_bool(&value);
        if flag.is_none() {
            self.invalid(attribute, span, "true or false");
        }
        flag
    }

    fn port(&mut self) -> Option<u16> {
        let (value, span) = self.take("port")?;
        let number = crate::model::convert::to_number(&value).map(Value::Number).and_then(|number| number.as_i64());
        let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
        if port.is_none() {
            self.invalid("port", span, "a number from 1 to 65535");
        }
        port
    }

    fn transport(&mut self) -> Transport {
        let Some((value, span)) = self.take("transport") else { return Transport::default() };
        match value.as_str() {
            Some("ssh") => Transport::Ssh,
            Some("local") => Transport::Local,
            _ => {
                self.invalid("transport", span, "`ssh` or `local`");
                Transport::default()
            }
        }
    }

    fn host_keys(&mut self) -> Vec<String> {
        let span = self.values.get("host_key").map(|(_, span)| *span);
        let keys = self.texts("host_key");
        let is_pin = |key: &String| key.starts_with("SHA256:") || key.split_whitespace().count() >= 2;
        if let Some(span) = span
            && !keys.iter().all(is_pin)
        {
            self.invalid("host_key", span, "a fingerprint `SHA256:…` or a line of a public key");
        }
        keys
    }

    fn vars(&mut self) -> BTreeMap<String, Value> {
        let Some((value, span)) = self.values.remove("vars") else { return BTreeMap::new() };
        let secret = matches!(value, Value::Sensitive(_));
        match value.as_map() {
            Some(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), if secret { value.clone().sensitive() } else { value.clone() }))
                .collect(),
            None => {
                self.invalid("vars", span, "a table");
                BTreeMap::new()
            }
        }
    }
}

/// Returns the nodes that `on` selects, in the order of the inventory, and a warning if it selects none.
///
/// # Errors
/// Returns an error if `on` is not a valid selector, or if it names an unknown node or a role that no node has.
pub fn select_nodes(
    on: &Expr,
    scope: &dyn ReferenceScope,
    nodes: &[Node],
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
        Value::String(all) if all == "all" => nodes.iter().collect(),
        Value::String(_) => named(std::slice::from_ref(&value), on.span, nodes)?,
        Value::List(names) => named(names, on.span, nodes)?,
        Value::Map(map) => with_roles(map, on.span, nodes)?,
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

/// Returns the nodes with these names.
fn named<'n>(names: &[Value], span: Span, nodes: &'n [Node]) -> Result<Vec<&'n Node>, Vec<Diagnostic>> {
    for name in names {
        let Some(name) = name.as_str() else {
            return Err(vec![Diagnostic::error("`on` must be a list of node names").at(span, "")]);
        };
        if !nodes.iter().any(|node| node.name.0 == name) {
            let diagnostic = Diagnostic::error(format!("unknown node `{name}`")).at(span, "");
            let help = suggest(name, nodes.iter().map(|node| node.name.0.as_str()));
            return Err(vec![Diagnostic { help, ..diagnostic }]);
        }
    }
    let wanted = |node: &&Node| names.iter().any(|name| name.as_str() == Some(node.name.0.as_str()));
    Ok(nodes.iter().filter(wanted).collect())
}

/// Returns the nodes with any role of `{ role = … }` or `{ roles = […] }`. A role that no node has is an error, unless `allow_empty` is true.
fn with_roles<'n>(
    selector: &BTreeMap<String, Value>,
    span: Span,
    nodes: &'n [Node],
) -> Result<Vec<&'n Node>, Vec<Diagnostic>> {
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
    let mut known: Vec<&str> = nodes.iter().flat_map(|node| &node.roles).map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let unknown: Vec<&str> = roles.iter().map(String::as_str).filter(|role| !known.contains(role)).collect();
    if let Some(first) = unknown.first().filter(|_| !allow_empty) {
        let diagnostic = Diagnostic::error(format!("no node has the role {}", quoted_list(&unknown)));
        let permit = "add `allow_empty = true` to `on` if the role may have no nodes";
        let help = match nearest(first, known.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`? Otherwise {permit}"),
            None => permit.to_owned(),
        };
        return Err(vec![diagnostic.at(span, "").help(help)]);
    }
    Ok(nodes.iter().filter(|node| node.roles.iter().any(|role| roles.contains(role))).collect())
}

/// Returns the roles of a selector.
fn roles(selector: &BTreeMap<String, Value>, span: Span) -> Result<Vec<String>, Vec<Diagnostic>> {
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

/// Returns the keys of `for_each` with their values, in order.
///
/// # Errors
/// Returns an error if the value is neither a list of strings nor a map, is known only after apply, or is sensitive.
pub fn evaluate_for_each(for_each: &Expr, scope: &dyn ReferenceScope) -> Result<Vec<(String, Value)>, Vec<Diagnostic>> {
    let value = for_each.evaluate(scope)?;
    let error = |summary: String, help: &str| vec![Diagnostic::error(summary).at(for_each.span, "").help(help)];
    let unknown = || {
        let resources = for_each.references().into_iter().filter_map(|(reference, _)| match reference {
            Reference::Resource { resource, .. } => Some(resource.to_string()),
            _ => None,
        });
        let resources: Vec<String> = resources.collect();
        let of = if resources.is_empty() {
            String::new()
        } else {
            format!(": it depends on {}", quoted_list(&resources.iter().map(String::as_str).collect::<Vec<_>>()))
        };
        let help = "the keys of `for_each` must be known when the plan is made: take them from variables or locals";
        error(format!("`for_each` is known only after apply{of}"), help)
    };
    let secret = || {
        error(
            "`for_each` is sensitive".to_owned(),
            "its keys become part of addresses, which are shown: use nonsensitive() if they are not secret",
        )
    };
    match &value {
        Value::Unknown | Value::Retained => Err(unknown()),
        Value::Sensitive(_) => Err(secret()),
        Value::Map(map) => Ok(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        Value::List(items) if items.iter().any(|item| item.is_unknown() || item.is_retained()) => Err(unknown()),
        Value::List(items) if items.iter().any(Value::is_sensitive) => Err(secret()),
        Value::List(items) => {
            let keys: Option<Vec<String>> = items.iter().map(to_text).collect();
            let keys = keys.ok_or_else(|| {
                error(
                    "`for_each` must be a list of strings or a map".to_owned(),
                    "convert a list of tables with { for item in LIST : item.name => item }",
                )
            })?;
            let repeated = keys.iter().enumerate().find(|(i, key)| keys[..*i].contains(key)).map(|(_, key)| key);
            match repeated {
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

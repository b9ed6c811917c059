//! Evaluation of the attributes of one node.

use std::collections::BTreeMap;

use super::NodeBlock;
use crate::expression::Scope as ReferenceScope;
use crate::model::convert::{to_bool, to_number, to_text};
use crate::model::{Diagnostic, Node, NodeName, Span, Transport, Value, ValueMap};

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

/// The result of the evaluation of a node.
pub(super) enum Evaluated {
    Node(Node),
    /// An attribute is unknown, for this reason.
    Open(Diagnostic),
}

/// Returns the error for an attribute that depends on unknown values.
pub(super) fn unknown_attribute(attribute: &str, subject: &str, span: Span) -> Diagnostic {
    let summary = format!("`{attribute}` of {subject} is known only after apply");
    let help = "the attributes of nodes must be known when the plan is made: take them from variables or locals";
    Diagnostic::error(summary).at(span, "").help(help)
}

/// The evaluated attributes of one node.
struct Fields<'b> {
    /// The node in messages.
    subject: &'b str,
    values: BTreeMap<&'b str, (Value, Span)>,
    errors: Vec<Diagnostic>,
}

/// Returns the node `name` with the attributes of its block. Messages call it `subject`.
pub(super) fn node(
    name: &str,
    subject: &str,
    block: &NodeBlock,
    scope: &dyn ReferenceScope,
) -> Result<Evaluated, Vec<Diagnostic>> {
    let mut fields = Fields { subject, values: BTreeMap::new(), errors: Vec::new() };
    for (attribute, _, expr) in &block.attributes {
        match expr.evaluate(scope) {
            Ok(Value::Null) => {}
            Ok(value) => {
                fields.values.insert(attribute, (value, expr.span));
            }
            Err(errors) => fields.errors.extend(errors),
        }
    }
    // The members of `vars` can be unknown, because nothing but resources uses them.
    let is_unknown = |(attribute, (value, _)): &(&&str, &(Value, Span))| {
        value.is_unknown() && (**attribute != "vars" || value.as_map().is_none())
    };
    if let Some((attribute, (_, span))) = fields.values.iter().find(is_unknown) {
        return Ok(Evaluated::Open(unknown_attribute(attribute, subject, *span)));
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
    if fields.errors.is_empty() { Ok(Evaluated::Node(node)) } else { Err(fields.errors) }
}

impl Fields<'_> {
    /// Removes an attribute and returns it. A sensitive one is an error, because plans and messages show it.
    fn take(&mut self, attribute: &'static str) -> Option<(Value, Span)> {
        let (value, span) = self.values.remove(attribute)?;
        if value.is_sensitive() {
            let summary = format!("`{attribute}` of {} is sensitive", self.subject);
            self.errors
                .push(Diagnostic::error(summary).at(span, "plans and messages show it; only `vars` can be sensitive"));
            return None;
        }
        Some((value, span))
    }

    fn invalid(&mut self, attribute: &str, span: Span, expected: &str) {
        let summary = format!("`{attribute}` of {} is not valid", self.subject);
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
        let flag = to_bool(&value);
        if flag.is_none() {
            self.invalid(attribute, span, "true or false");
        }
        flag
    }

    fn port(&mut self) -> Option<u16> {
        let (value, span) = self.take("port")?;
        let number = to_number(&value).map(Value::Number).and_then(|number| number.as_i64());
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

    fn vars(&mut self) -> ValueMap {
        let Some((value, span)) = self.values.remove("vars") else { return ValueMap::new() };
        let secrecy = value.secrecy();
        match value.as_map() {
            Some(map) => map.iter().map(|(key, value)| (key.clone(), value.clone().with(&secrecy))).collect(),
            None => {
                self.invalid("vars", span, "a table");
                ValueMap::new()
            }
        }
    }
}

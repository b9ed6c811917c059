//! Checks of a block against its schema, before its expressions are evaluated.

use super::terraform;
use crate::expression::{Expr, ExprNode};
use crate::model::diagnostic::missing_attributes;
use crate::model::schema::conform;
use crate::model::schema::conform::join;
use crate::model::{Attribute, Diagnostic, Kind, Schema, Span, error_codes, suggest};

/// Checks the attributes of `block` (`ssh_file.motd`, at `span`) as far as they do not depend on values. Returns the errors.
pub fn check_attributes(
    schema: &Schema,
    block: &str,
    span: Span,
    attributes: &[(String, Span, Expr)],
) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    check_members(&schema.attributes, block, "", span, attributes, &mut problems);
    problems
}

/// Checks a block that is the value of an attribute, as [`check_attributes`] does. An expression is not checked.
pub(crate) fn check_expr(schema: &Schema, block: &str, expr: &Expr) -> Vec<Diagnostic> {
    match &expr.node {
        ExprNode::Map(members) => check_attributes(schema, block, expr.span, members),
        ExprNode::Expression(_) => Vec::new(),
        _ => vec![Diagnostic::error(format!("{block} must be a table")).at(expr.span, "")],
    }
}

fn check_members(
    schema: &[Attribute],
    block: &str,
    path: &str,
    span: Span,
    attributes: &[(String, Span, Expr)],
    problems: &mut Vec<Diagnostic>,
) {
    let writable = || schema.iter().filter(|attribute| attribute.optional).map(|attribute| attribute.name);
    for (name, at, expr) in attributes {
        match schema.iter().find(|attribute| attribute.name == name) {
            None => {
                let diagnostic = Diagnostic::error(format!("unknown attribute `{name}` of {block}"))
                    .code(error_codes::UNKNOWN_ATTRIBUTE)
                    .at(*at, "");
                let terraform_help = terraform::key(name).filter(|_| path.is_empty());
                problems.push(Diagnostic { help: terraform_help.or_else(|| suggest(name, writable())), ..diagnostic });
            }
            Some(attribute) if !attribute.optional => {
                let summary = format!("`{name}` of {block} cannot be set");
                problems.push(Diagnostic::error(summary).at(*at, "the provider computes it"));
            }
            Some(attribute) => check_value(&attribute.kind, &join(path, name), expr, problems),
        }
    }
    let written = |name: &str| attributes.iter().any(|(written, _, _)| written == name);
    let missing: Vec<&str> = schema
        .iter()
        .filter(|attribute| attribute.required && !written(attribute.name))
        .map(|attribute| attribute.name)
        .collect();
    if !missing.is_empty() {
        problems.push(
            Diagnostic::error(format!("{block}: {}", missing_attributes(&missing)))
                .code(error_codes::MISSING_ATTRIBUTE)
                .at(span, ""),
        );
    }
}

/// Checks the literal parts of a value.
fn check_value(kind: &Kind, path: &str, expr: &Expr, problems: &mut Vec<Diagnostic>) {
    match (&expr.node, kind) {
        (ExprNode::Literal(value), _) => {
            if let Err(errors) = conform::value(kind, value.clone(), path) {
                problems.extend(errors.into_iter().map(|(path, message)| {
                    Diagnostic::error(format!("`{path}` is not valid"))
                        .code(error_codes::INVALID_VALUE)
                        .at(expr.span, message)
                }));
            }
        }
        (ExprNode::List(items), Kind::List(inner)) => {
            for (i, item) in items.iter().enumerate() {
                check_value(inner, &format!("{path}[{i}]"), item, problems);
            }
        }
        (ExprNode::Map(members), Kind::Map(inner)) => {
            members.iter().for_each(|(name, _, member)| check_value(inner, &join(path, name), member, problems));
        }
        (ExprNode::Map(members), Kind::Object(attributes)) => {
            check_members(attributes, &format!("`{path}`"), path, expr.span, members, problems);
        }
        (ExprNode::List(_), Kind::Any) | (ExprNode::Map(_), Kind::Any) => {}
        (ExprNode::List(_), _) => mismatch(path, expr, kind, "a list", problems),
        (ExprNode::Map(_), _) => mismatch(path, expr, kind, "a table", problems),
        (ExprNode::Expression(_), _) => {}
        (ExprNode::Template(_), Kind::List(_) | Kind::Map(_) | Kind::Object(_)) => {
            mismatch(path, expr, kind, "a string", problems)
        }
        (ExprNode::Template(_), _) => {}
    }
}

fn mismatch(path: &str, expr: &Expr, kind: &Kind, found: &str, problems: &mut Vec<Diagnostic>) {
    let label = format!("must be {}, not {found}", kind.describe());
    problems.push(
        Diagnostic::error(format!("`{path}` is not valid")).code(error_codes::INVALID_VALUE).at(expr.span, label),
    );
}

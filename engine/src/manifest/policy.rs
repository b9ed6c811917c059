//! `[policy.NAME]`: rules over a plan.

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Reader};
use super::resource::text_condition;
use crate::expression::Expr;
use crate::model::{Span, suggest};

/// `[policy.NAME]`: a rule over the whole plan.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The place of the header.
    pub span: Span,
    /// The condition that must be true. It can refer to `plan`, variables, locals and `nodes`.
    pub condition: Expr,
    /// The message if the condition is false. It can refer to the same values.
    pub message: Expr,
    /// The effect of a violation.
    pub severity: PolicySeverity,
}

/// The effect of a policy violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySeverity {
    /// The plan cannot be applied.
    #[default]
    Deny,
    /// The violation is only reported.
    Warn,
}

/// The names of the severities in a manifest.
const SEVERITIES: [(&str, PolicySeverity); 2] = [("deny", PolicySeverity::Deny), ("warn", PolicySeverity::Warn)];

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let block = format!("the policy `{name}`");
    let Some(mut fields) = reader.fields(table, &block) else { return };
    let span = reader.span(table.span());
    let condition = reader.optional_expr(fields.take("condition"));
    let message = reader.optional_expr(fields.take("message"));
    let severity = severity(reader, fields.take("severity"));
    reader.finish(fields, &block);
    let missing: Vec<&str> = [("condition", condition.is_none()), ("message", message.is_none())]
        .into_iter()
        .filter_map(|(name, is_missing)| is_missing.then_some(name))
        .collect();
    if !missing.is_empty() {
        reader.missing(span, &block, &missing);
    }
    if let (Some(condition), Some(message)) = (condition, message) {
        reader.diagnostics.extend(text_condition(&condition));
        loader.manifest.policies.insert(name.to_owned(), Policy { span, condition, message, severity });
    }
}

fn severity<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> PolicySeverity {
    let Some(entry) = entry else { return PolicySeverity::default() };
    let span = reader.span(entry.value.span());
    let Some(word) = reader.text(Some(entry)) else { return PolicySeverity::default() };
    let known = SEVERITIES.into_iter().find(|(known, _)| *known == word);
    if known.is_none() {
        let help = suggest(&word, SEVERITIES.map(|(known, _)| known));
        reader.error_with(span, format!("`{word}` is not a valid policy severity"), help);
    }
    known.map_or(PolicySeverity::default(), |(_, severity)| severity)
}

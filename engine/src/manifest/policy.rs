//! `[policy.NAME]`: what a plan must be like.

use toml::Spanned;
use toml::de::DeValue;

use super::load::Loader;
use super::reader::{Entry, Reader};
use super::resource::is_text;
use crate::expression::Expr;
use crate::model::{Span, suggest};

/// `[policy.NAME]`: a rule that a plan keeps or violates.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its header.
    pub span: Span,
    /// Must be true; may refer to `plan`, variables, locals and `nodes`.
    pub condition: Expr,
    /// Said where it is not; may refer to the same.
    pub message: Expr,
    /// What a violation means.
    pub severity: PolicySeverity,
}

/// What the violation of a policy means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySeverity {
    /// The plan is not applied.
    #[default]
    Deny,
    /// It is said, and nothing else.
    Warn,
}

/// The words for [`PolicySeverity`].
const SEVERITIES: [(&str, PolicySeverity); 2] = [("deny", PolicySeverity::Deny), ("warn", PolicySeverity::Warn)];

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let what = format!("the policy `{name}`");
    let Some(mut fields) = reader.fields(table, &what) else { return };
    let span = reader.span(table.span());
    let condition = reader.optional_expr(fields.take("condition"));
    let message = reader.optional_expr(fields.take("message"));
    let severity = severity(reader, fields.take("severity"));
    reader.finish(fields, &what);
    let lacking: Vec<&str> = [("condition", condition.is_none()), ("message", message.is_none())]
        .into_iter()
        .filter_map(|(name, lacks)| lacks.then_some(name))
        .collect();
    if !lacking.is_empty() {
        reader.missing(span, &what, &lacking);
    }
    if let (Some(condition), Some(message)) = (condition, message) {
        reader.diagnostics.extend(is_text(&condition));
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
        reader.error_with(span, format!("`{word}` is no severity of a policy"), help);
    }
    known.map_or(PolicySeverity::default(), |(_, severity)| severity)
}

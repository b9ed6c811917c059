//! Evaluation of templates: `${…}`, `%{if}`, `%{for}`, and the trimming with `~`.

use hcl::edit::Span as _;
use hcl::edit::template::{Directive, Element, ForDirective, IfDirective, Strip, Template};

use super::evaluate::{Evaluated, Evaluator, open};
use crate::model::convert::to_text;
use crate::model::value::Secrecy;
use crate::model::{Diagnostic, Value};

/// The output of a template that is being evaluated.
#[derive(Default)]
struct Text {
    text: String,
    /// The result if a part is unknown or retained.
    pending: Option<Value>,
    /// The secrecy of the conditions and collections that determine the text.
    secrecy: Secrecy,
    /// The sensitive values in the text.
    sources: Vec<Value>,
    errors: Vec<Diagnostic>,
}

impl Text {
    fn pend(&mut self, value: Value) {
        if self.pending != Some(Value::Unknown) {
            self.pending = Some(value);
        }
    }
}

impl Evaluator<'_> {
    /// Evaluates a template.
    pub(super) fn template(&mut self, template: &Template) -> Evaluated {
        let mut text = Text::default();
        self.elements(template, (false, false), &mut text);
        if !text.errors.is_empty() {
            return Err(text.errors);
        }
        let value = text.pending.unwrap_or(Value::String(text.text));
        let value = if text.sources.is_empty() { value } else { value.sensitive_from(&text.sources) };
        Ok(value.with(&text.secrecy))
    }

    /// Evaluates the elements and appends them to `text`. The bools are whether the markers around the template trim its start and its end.
    fn elements(&mut self, template: &Template, (trim_start, trim_end): (bool, bool), text: &mut Text) {
        let strips: Vec<(bool, bool)> = template.iter().map(strips).collect();
        for (i, element) in template.iter().enumerate() {
            match element {
                Element::Literal(literal) => {
                    let before = if i == 0 { trim_start } else { strips[i - 1].1 };
                    let after = strips.get(i + 1).map_or(trim_end, |(start, _)| *start);
                    text.text.push_str(trimmed(literal, before, after));
                }
                Element::Interpolation(interpolation) => match self.expression(&interpolation.expr) {
                    Err(errors) => text.errors.extend(errors),
                    Ok(value) => {
                        if value.is_sensitive() {
                            text.sources.push(value.clone());
                        }
                        let (value, _) = open(value);
                        match (&value, to_text(&value)) {
                            (_, Some(part)) => text.text.push_str(&part),
                            (Value::Unknown | Value::Retained, _) => text.pend(value),
                            (other, None) => {
                                text.errors.extend(self.error(interpolation.expr.span(), not_text(other)));
                            }
                        }
                    }
                },
                Element::Directive(directive) => match &**directive {
                    Directive::If(directive) => self.if_directive(directive, text),
                    Directive::For(directive) => self.for_directive(directive, text),
                },
            }
        }
    }

    fn if_directive(&mut self, directive: &IfDirective, text: &mut Text) {
        let IfDirective { if_expr, else_expr, endif_expr, .. } = directive;
        let condition = match self.condition(&if_expr.cond_expr) {
            Err(errors) => return text.errors.extend(errors),
            Ok((condition, secrecy)) => {
                text.secrecy.add(&secrecy);
                condition
            }
        };
        match (condition, else_expr) {
            (Err(pending), _) => text.pend(pending),
            (Ok(true), other) => {
                let next = other.as_ref().map_or(endif_expr.strip, |other| other.strip);
                self.elements(&if_expr.template, around(if_expr.strip, next), text);
            }
            (Ok(false), Some(other)) => self.elements(&other.template, around(other.strip, endif_expr.strip), text),
            (Ok(false), None) => {}
        }
    }

    fn for_directive(&mut self, directive: &ForDirective, text: &mut Text) {
        let ForDirective { for_expr, endfor_expr, .. } = directive;
        let range = for_expr.collection_expr.span();
        let collection = self.expression(&for_expr.collection_expr).and_then(|value| self.collection(value, range));
        let entries = match collection {
            Err(errors) => return text.errors.extend(errors),
            Ok((entries, secrecy)) => {
                text.secrecy.add(&secrecy);
                match entries {
                    Ok(entries) => entries,
                    Err(pending) => return text.pend(pending),
                }
            }
        };
        let names = (for_expr.key_var.as_ref().map(|name| name.as_str()), for_expr.value_var.as_str());
        let trims = around(for_expr.strip, endfor_expr.strip);
        for (key, value) in entries {
            self.binding(names, key, value, |inner| inner.elements(&for_expr.template, trims, text));
        }
    }
}

/// Whether the element trims the text before it, and the text after it.
fn strips(element: &Element) -> (bool, bool) {
    let (first, last) = match element {
        Element::Literal(_) => return (false, false),
        Element::Interpolation(interpolation) => (interpolation.strip, interpolation.strip),
        Element::Directive(directive) => match &**directive {
            Directive::If(directive) => (directive.if_expr.strip, directive.endif_expr.strip),
            Directive::For(directive) => (directive.for_expr.strip, directive.endfor_expr.strip),
        },
    };
    (first.strip_start(), last.strip_end())
}

/// Returns whether two markers trim the start and the end of the template between them.
fn around(before: Strip, after: Strip) -> (bool, bool) {
    (before.strip_end(), after.strip_start())
}

/// Trims the start and the end of a literal. As in HCL, a `~` trims the white space of one line, including the newline.
fn trimmed(literal: &str, start: bool, end: bool) -> &str {
    let mut text = literal;
    if start {
        let line = text.find('\n').map_or(text.len(), |newline| newline + 1);
        let white = line - text[..line].trim_start().len();
        text = &text[white..];
    }
    if end {
        let line = text[..text.len() - usize::from(text.ends_with('\n'))].rfind('\n').map_or(0, |newline| newline + 1);
        text = &text[..line + text[line..].trim_end().len()];
    }
    text
}

fn not_text(value: &Value) -> String {
    match value {
        Value::Null => "this value is null and cannot be part of a text".to_owned(),
        other => format!("a {} cannot be part of a text: convert it with `jsonencode` or `join`", other.type_name()),
    }
}

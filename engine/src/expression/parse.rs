//! Parsing of strings as HCL templates and expressions.

use hcl::edit::expr::Expression;
use hcl::edit::parser;
use hcl::edit::template::{Element, Template};

use super::{Expr, ExprNode, Parsed, Place};
use crate::model::{Diagnostic, Span, Value, error_codes};

impl Expr {
    /// Parses the string `text` at `place` as a template.
    ///
    /// # Errors
    /// Returns an error if the syntax is not valid.
    pub fn template(text: &str, place: Place) -> Result<Self, Box<Diagnostic>> {
        let span = place.whole();
        if !text.contains("${") && !text.contains("%{") {
            return Ok(Self::literal(span, Value::from(text)));
        }
        let template = parse_template(text, &place)?;
        Ok(Self { span, node: simplest(template, place) })
    }

    /// Parses the whole `text` at `span` as an expression, as for `console` and `-var`.
    ///
    /// # Errors
    /// Returns an error if the syntax is not valid.
    pub fn expression(text: &str, span: Span) -> Result<Self, Box<Diagnostic>> {
        let place = Place::verbatim(span);
        let syntax: Expression =
            parser::parse_expr(text).map_err(|error| Box::new(syntax_error(text, &error, &place)))?;
        Ok(Self { span, node: ExprNode::Expression(Box::new(Parsed { syntax, place })) })
    }
}

/// Parses `text` as a template.
pub(super) fn parse_template(text: &str, place: &Place) -> Result<Template, Box<Diagnostic>> {
    parser::parse_template(text).map_err(|error| Box::new(syntax_error(text, &error, place)))
}

/// Returns the simplest form of a template: its expression if it is exactly one interpolation, its text if it has none.
fn simplest(template: Template, place: Place) -> ExprNode {
    if template.iter().all(Element::is_literal) {
        let text: String = template.iter().filter_map(Element::as_literal).map(|text| text.as_str()).collect();
        return ExprNode::Literal(Value::String(text));
    }
    if template.as_single_element().is_some_and(Element::is_interpolation)
        && let Some(Element::Interpolation(interpolation)) = template.clone().into_iter().next()
    {
        return ExprNode::Expression(Box::new(Parsed { syntax: interpolation.expr, place }));
    }
    // The parser leaves room for more elements, which are large.
    let syntax = template.into_iter().collect();
    ExprNode::Template(Box::new(Parsed { syntax, place }))
}

fn syntax_error(text: &str, error: &parser::Error, place: &Place) -> Diagnostic {
    let (start, rest) = error_position(text, error);
    let (label, help) = explain(error.message(), rest);
    let marked = match rest.chars().next() {
        Some('$' | '%') if rest[1..].starts_with('{') => 2,
        Some(c) => c.len_utf8(),
        None => 0,
    };
    let diagnostic = Diagnostic::error("this is not a valid expression")
        .code(error_codes::INVALID_EXPRESSION)
        .at(place.span(Some(start..start + marked)), label);
    Diagnostic { help, ..diagnostic }
}

/// Returns the position of the error, and the text from there on.
fn error_position<'t>(text: &'t str, error: &parser::Error) -> (usize, &'t str) {
    let location = error.location();
    let last = text.char_indices().rev().find(|(at, _)| *at <= location.offset()).map_or(0, |(at, _)| at);
    let column = text[..last].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    // At the end of the text the parser returns the offset of the last character and the column after it.
    let start = if location.column() > column && last + 1 >= location.offset() { text.len() } else { last };
    (start, &text[start..])
}

/// Returns the label and the remedy for a message of the parser.
fn explain(message: &str, rest: &str) -> (String, Option<String>) {
    if rest.starts_with("%{") {
        let help = "close every `%{ if … }` with `%{ endif }` and every `%{ for … in … }` with `%{ endfor }`; write `%%{` for a literal `%{`";
        return ("this directive is not closed or is unknown".to_owned(), Some(help.to_owned()));
    }
    if rest.starts_with("${") {
        let help = "write `$${` for a literal `${`";
        return ("this `${` is not closed".to_owned(), Some(help.to_owned()));
    }
    if rest.is_empty() {
        let expected = message.strip_prefix("expected ").filter(|expected| expected.len() < 20);
        return (format!("the text ends before {} here", expected.unwrap_or("the expression")), None);
    }
    let label = match message {
        message if message.starts_with("invalid expression;") => "an expression is expected here",
        message if message.starts_with("invalid traversal operator") => {
            "a name, an index or `*` is expected after the `.`"
        }
        "unexpected token" => "unexpected text",
        "expected `}`" => {
            let help = "the expression ends here; write `$${` for a literal `${`";
            return ("a `}` is expected here".to_owned(), Some(help.to_owned()));
        }
        message => return (message.to_owned(), None),
    };
    (label.to_owned(), None)
}

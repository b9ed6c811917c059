//! A reader of TOML tables into typed fields. It collects all errors.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::expression::{Expr, ExprNode, Place, toml_number};
use crate::model::diagnostic::missing_attributes;
use crate::model::number::integer;
use crate::model::{Diagnostic, Pattern, Span, Value, error_codes, parse_duration, suggest};

/// A reader of the tables of one file.
pub(crate) struct Reader<'a> {
    file: usize,
    text: &'a str,
    /// The errors found so far.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A key of a TOML table, with its value.
pub(crate) struct Entry<'a> {
    /// The key.
    pub(crate) name: String,
    /// The place of the key.
    pub(crate) span: Span,
    /// The value.
    pub(crate) value: &'a Spanned<DeValue<'a>>,
}

/// The entries of a table. [`Fields::take`] removes them one by one.
pub(crate) struct Fields<'a> {
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Removes the entry of this name and returns it.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Entry<'a>> {
        self.known.push(name);
        let at = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(at))
    }

    /// Returns the entry of this name without removing it.
    pub(crate) fn peek(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Returns the entries that were not taken.
    pub(crate) fn rest(self) -> Vec<Entry<'a>> {
        self.entries
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: usize, text: &'a str) -> Self {
        Self { file, text, diagnostics: Vec::new() }
    }

    /// Returns the span of a range of bytes in the file.
    pub(crate) fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { file: self.file, start: range.start, end: range.end }
    }

    /// Records an error at `span`.
    pub(crate) fn error(&mut self, span: Span, summary: impl Into<String>, label: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(summary).at(span, label));
    }

    /// Records an error at `span` with a remedy.
    pub(crate) fn error_with(&mut self, span: Span, summary: impl Into<String>, help: Option<String>) {
        let diagnostic = Diagnostic::error(summary).at(span, "");
        self.diagnostics.push(Diagnostic { help, ..diagnostic });
    }

    /// Records at `span` that the block has no such attribute.
    pub(crate) fn unknown_attribute(&mut self, span: Span, summary: String, help: Option<String>) {
        let diagnostic = Diagnostic::error(summary).code(error_codes::UNKNOWN_ATTRIBUTE).at(span, "");
        self.diagnostics.push(Diagnostic { help, ..diagnostic });
    }

    /// Returns the entries of a table in the order of the file.
    pub(crate) fn entries(&self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| Entry { name: key.get_ref().to_string(), span: self.span(key.span()), value })
            .collect();
        entries.sort_by_key(|entry| entry.span.start);
        entries
    }

    /// Returns the entries of `value`. If it is not a table, records an error and returns `None`.
    pub(crate) fn table(&mut self, value: &'a Spanned<DeValue<'a>>, block: &str) -> Option<Vec<Entry<'a>>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(self.entries(table)),
            other => {
                self.mismatch(value, &format!("{block} must be a table"), other);
                None
            }
        }
    }

    /// Returns the fields of `value`. If it is not a table, records an error and returns `None`.
    pub(crate) fn fields(&mut self, value: &'a Spanned<DeValue<'a>>, block: &str) -> Option<Fields<'a>> {
        self.table(value, block).map(|entries| Fields { entries, known: Vec::new() })
    }

    /// Records an error for each field that was not taken.
    pub(crate) fn finish(&mut self, fields: Fields<'a>, block: &str) {
        for entry in fields.entries {
            let help = suggest(&entry.name, fields.known.iter().copied());
            self.unknown_attribute(entry.span, format!("unknown attribute `{}` in {block}", entry.name), help);
        }
    }

    /// Whether the table has its own header `[…]`. Otherwise it is an inline table or made by dotted keys.
    pub(crate) fn has_header(&self, value: &Spanned<DeValue>) -> bool {
        self.text.get(value.span()).is_some_and(|text| text.starts_with('['))
    }

    fn mismatch(&mut self, value: &Spanned<DeValue>, expected: &str, found: &DeValue) {
        let span = self.span(value.span());
        let error = Diagnostic::error(expected).code(error_codes::INVALID_VALUE);
        self.diagnostics.push(error.at(span, format!("this is {}", type_name(found))));
    }

    /// Returns a string that is not an expression.
    pub(crate) fn text(&mut self, entry: Option<Entry<'a>>) -> Option<String> {
        let entry = entry?;
        match entry.value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other => {
                self.mismatch(entry.value, &format!("`{}` must be a string", entry.name), other);
                None
            }
        }
    }

    /// Returns a bool that is not an expression.
    pub(crate) fn flag(&mut self, entry: Option<Entry<'a>>) -> Option<bool> {
        let entry = entry?;
        match entry.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                self.mismatch(
                    entry.value,
                    &format!("`{}` must be true or false, not an expression", entry.name),
                    other,
                );
                None
            }
        }
    }

    /// Returns a string, or the strings of a list, each with its place. They are not expressions.
    pub(crate) fn texts(&mut self, entry: Option<Entry<'a>>) -> Vec<(String, Span)> {
        let Some(entry) = entry else { return Vec::new() };
        let expected = format!("`{}` must be a list of strings", entry.name);
        let values: Vec<&Spanned<DeValue>> = match entry.value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            DeValue::String(_) => vec![entry.value],
            other => {
                self.mismatch(entry.value, &expected, other);
                Vec::new()
            }
        };
        let mut texts = Vec::new();
        for value in values {
            match value.get_ref() {
                DeValue::String(text) => texts.push((text.to_string(), self.span(value.span()))),
                other => self.mismatch(value, &expected, other),
            }
        }
        texts
    }

    /// Returns the addresses of a list.
    pub(crate) fn addresses(&mut self, entry: Option<Entry<'a>>) -> Vec<(Pattern, Span)> {
        let texts = self.texts(entry);
        let addresses = texts.into_iter().filter_map(|(text, span)| Some((self.parse_address(&text, span)?, span)));
        let mut addresses: Vec<_> = addresses.collect();
        addresses.shrink_to_fit();
        addresses
    }

    /// Returns an address.
    pub(crate) fn address(&mut self, entry: Option<Entry<'a>>) -> Option<Pattern> {
        let span = self.span(entry.as_ref()?.value.span());
        let text = self.text(entry)?;
        self.parse_address(&text, span)
    }

    /// Parses `text` as an address, or records an error.
    pub(super) fn parse_address(&mut self, text: &str, span: Span) -> Option<Pattern> {
        // Terraform users may write a reference here: `${ssh_file.motd}` is accepted as the address.
        let bare = text.strip_prefix("${").and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        match bare.parse() {
            Ok(address) => Some(address),
            Err(invalid) => {
                self.error(span, invalid.to_string(), "");
                None
            }
        }
    }

    /// Returns a whole number of at least 0, or `None` for any other value. It records no error.
    pub(super) fn integer(&self, value: &Spanned<DeValue>) -> Option<usize> {
        match value.get_ref() {
            number @ DeValue::Integer(_) => integer(&toml_number(number).ok()?)?.try_into().ok(),
            _ => None,
        }
    }

    /// Returns a duration such as `15m`.
    pub(crate) fn duration(&mut self, entry: Entry<'a>) -> Option<Duration> {
        let span = self.span(entry.value.span());
        let text = self.text(Some(entry))?;
        let duration = parse_duration(&text);
        if duration.is_none() {
            self.error(span, format!("`{text}` is not a duration"), "a duration is written as in 90s, 15m or 1h30m");
        }
        duration
    }

    /// Returns the expression of a value. Its strings are templates.
    pub(crate) fn expr(&mut self, value: &'a Spanned<DeValue<'a>>) -> Expr {
        let span = self.span(value.span());
        let literal = |value: Value| Expr::literal(span, value);
        match value.get_ref() {
            DeValue::String(text) => {
                let place = Place::toml_string(self.text, span, text);
                match Expr::template(text, place) {
                    Ok(expr) => {
                        self.diagnostics.extend(expr.problems());
                        expr
                    }
                    Err(diagnostic) => {
                        self.diagnostics.push(*diagnostic);
                        literal(Value::Null)
                    }
                }
            }
            number @ (DeValue::Integer(_) | DeValue::Float(_)) => match toml_number(number) {
                Ok(number) => literal(Value::Number(number)),
                Err(problem) => {
                    self.error(span, "this number cannot be used", problem);
                    literal(Value::Null)
                }
            },
            DeValue::Boolean(truth) => literal(Value::Bool(*truth)),
            DeValue::Datetime(datetime) => literal(Value::String(datetime.to_string())),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| self.expr(item)).collect();
                Expr { span, node: ExprNode::List(items) }
            }
            DeValue::Table(table) => {
                let entries = self.entries(table);
                let members =
                    entries.into_iter().map(|entry| (entry.name, entry.span, self.expr(entry.value))).collect();
                Expr { span, node: ExprNode::Map(members) }
            }
        }
    }

    /// Returns the expression of an optional entry.
    pub(crate) fn optional_expr(&mut self, entry: Option<Entry<'a>>) -> Option<Expr> {
        entry.map(|entry| self.expr(entry.value))
    }

    /// Returns the entries as attributes: name, place of the name, expression.
    pub(crate) fn attributes(&mut self, entries: Vec<Entry<'a>>) -> Vec<(String, Span, Expr)> {
        entries.into_iter().map(|entry| (entry.name, entry.span, self.expr(entry.value))).collect()
    }

    /// Records that the block has no `names`, which are required.
    pub(crate) fn missing(&mut self, span: Span, block: &str, names: &[&str]) {
        let summary = format!("{block}: {}", missing_attributes(names));
        self.diagnostics.push(Diagnostic::error(summary).code(error_codes::MISSING_ATTRIBUTE).at(span, ""));
    }
}

fn type_name(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a bool",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

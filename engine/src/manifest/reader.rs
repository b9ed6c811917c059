//! Reading TOML into typed fields, and collecting everything that is wrong on the way.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::expression::{Expr, ExprNode, Place, toml_number};
use crate::model::diagnostic::quoted_list;
use crate::model::number::integer;
use crate::model::{Address, Diagnostic, Span, Value, parse_duration, suggest};

/// Reads the tables of one file.
pub(crate) struct Reader<'a> {
    file: usize,
    text: &'a str,
    /// What is wrong so far.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A key and its value.
pub(crate) struct Entry<'a> {
    /// The key.
    pub(crate) name: String,
    /// Where the key stands.
    pub(crate) span: Span,
    /// What it is set to.
    pub(crate) value: &'a Spanned<DeValue<'a>>,
}

/// The entries of a table, taken one by one by their names.
pub(crate) struct Fields<'a> {
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The entry of this name.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Entry<'a>> {
        self.known.push(name);
        let at = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(at))
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> Vec<Entry<'a>> {
        self.entries
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: usize, text: &'a str) -> Self {
        Self { file, text, diagnostics: Vec::new() }
    }

    /// The place of a range of bytes in the file.
    pub(crate) fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { file: self.file, start: range.start, end: range.end }
    }

    /// Notes an error at `span`.
    pub(crate) fn error(&mut self, span: Span, summary: impl Into<String>, label: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(summary).at(span, label));
    }

    /// Notes an error at `span` with what to do about it.
    pub(crate) fn error_with(&mut self, span: Span, summary: impl Into<String>, help: Option<String>) {
        let diagnostic = Diagnostic::error(summary).at(span, "");
        self.diagnostics.push(Diagnostic { help, ..diagnostic });
    }

    /// The entries of a table, in the order they are written.
    pub(crate) fn entries(&self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| Entry { name: key.get_ref().to_string(), span: self.span(key.span()), value })
            .collect();
        entries.sort_by_key(|entry| entry.span.start);
        entries
    }

    /// The entries of the table that `value` must be; none where it is not one.
    pub(crate) fn table(&mut self, value: &'a Spanned<DeValue<'a>>, what: &str) -> Option<Vec<Entry<'a>>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(self.entries(table)),
            other => {
                self.mismatch(value, &format!("{what} is a table"), other);
                None
            }
        }
    }

    /// The fields of the table that `value` must be.
    pub(crate) fn fields(&mut self, value: &'a Spanned<DeValue<'a>>, what: &str) -> Option<Fields<'a>> {
        self.table(value, what).map(|entries| Fields { entries, known: Vec::new() })
    }

    /// Notes every field that nobody took.
    pub(crate) fn finish(&mut self, fields: Fields<'a>, what: &str) {
        for entry in fields.entries {
            let help = suggest(&entry.name, fields.known.iter().copied());
            self.error_with(entry.span, format!("unknown key `{}` in {what}", entry.name), help);
        }
    }

    /// Was the table written with a header of its own, `[…]`?
    pub(crate) fn has_header(&self, value: &Spanned<DeValue>) -> bool {
        self.text.get(value.span()).is_some_and(|text| text.starts_with('['))
    }

    fn mismatch(&mut self, value: &Spanned<DeValue>, expected: &str, found: &DeValue) {
        let span = self.span(value.span());
        self.error(span, expected.to_owned(), format!("this is {}", type_name(found)));
    }

    /// A string in which nothing is evaluated.
    pub(crate) fn text(&mut self, entry: Option<Entry<'a>>) -> Option<String> {
        let entry = entry?;
        match entry.value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other => {
                self.mismatch(entry.value, &format!("`{}` is a string", entry.name), other);
                None
            }
        }
    }

    /// A bool in which nothing is evaluated.
    pub(crate) fn flag(&mut self, entry: Option<Entry<'a>>) -> Option<bool> {
        let entry = entry?;
        match entry.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                self.mismatch(entry.value, &format!("`{}` is true or false, not an expression", entry.name), other);
                None
            }
        }
    }

    /// A string or a list of strings in which nothing is evaluated, each with its place.
    pub(crate) fn texts(&mut self, entry: Option<Entry<'a>>) -> Vec<(String, Span)> {
        let Some(entry) = entry else { return Vec::new() };
        let expected = format!("`{}` is a list of strings", entry.name);
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

    /// A list of addresses.
    pub(crate) fn addresses(&mut self, entry: Option<Entry<'a>>) -> Vec<(Address, Span)> {
        let texts = self.texts(entry);
        texts.into_iter().filter_map(|(text, span)| Some((self.parse_address(&text, span)?, span))).collect()
    }

    /// An address.
    pub(crate) fn address(&mut self, entry: Option<Entry<'a>>) -> Option<Address> {
        let span = self.span(entry.as_ref()?.value.span());
        let text = self.text(entry)?;
        self.parse_address(&text, span)
    }

    /// The address that `text` is.
    pub(super) fn parse_address(&mut self, text: &str, span: Span) -> Option<Address> {
        // In Terraform such lists hold references; an address in `${…}` is the same thing.
        let bare = text.strip_prefix("${").and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        match bare.parse() {
            Ok(address) => Some(address),
            Err(invalid) => {
                self.error(span, invalid.to_string(), "");
                None
            }
        }
    }

    /// A whole number that is not negative; where it is anything else, that is for the caller to say.
    pub(super) fn integer(&self, value: &Spanned<DeValue>) -> Option<usize> {
        match value.get_ref() {
            number @ DeValue::Integer(_) => integer(&toml_number(number).ok()?)?.try_into().ok(),
            _ => None,
        }
    }

    /// A duration such as `15m`.
    pub(crate) fn duration(&mut self, entry: Entry<'a>) -> Option<Duration> {
        let span = self.span(entry.value.span());
        let text = self.text(Some(entry))?;
        let duration = parse_duration(&text);
        if duration.is_none() {
            self.error(span, format!("`{text}` is no duration"), "one looks like 90s, 15m or 1h30m");
        }
        duration
    }

    /// A value with expressions in its strings.
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

    /// The value of an entry, where there is one.
    pub(crate) fn optional_expr(&mut self, entry: Option<Entry<'a>>) -> Option<Expr> {
        entry.map(|entry| self.expr(entry.value))
    }

    /// Entries as attributes.
    pub(crate) fn attributes(&mut self, entries: Vec<Entry<'a>>) -> Vec<(String, Span, Expr)> {
        entries.into_iter().map(|entry| (entry.name, entry.span, self.expr(entry.value))).collect()
    }

    /// Notes that a block lacks keys that it must have.
    pub(crate) fn missing(&mut self, span: Span, what: &str, names: &[&str]) {
        self.error(span, format!("{what} lacks {}", quoted_list(names)), "");
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

//! The content that a data source read: its limit, its format, and whether it is sensitive.

use moorfast_engine::expression::TextFormat;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Value};
use moorfast_engine::provider::{Class, ProviderError};

/// The largest content in bytes.
pub(crate) const LIMIT: usize = 16 << 20;

/// How to decode a content, and whether it is sensitive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoding {
    /// The format. `None` for text.
    format: Option<TextFormat>,
    /// Whether the content is never shown or stored.
    pub(crate) sensitive: bool,
}

/// Returns the arguments `format` and `sensitive`.
pub(crate) fn arguments() -> [Attribute; 2] {
    [
        Attribute::optional(
            "format",
            Kind::OneOf(&["text", "json", "yaml", "toml"]),
            "Format of the content, which `result` is decoded from. YAML is one document, as for `yamldecode`.",
        )
        .or("text"),
        Attribute::optional(
            "sensitive",
            Kind::Bool,
            "Whether the content is never shown or stored. Default: `true` if another argument is sensitive.",
        ),
    ]
}

/// Returns the computed attributes.
pub(crate) fn results(text: &'static str, doc: &'static str) -> [Attribute; 2] {
    [
        Attribute::computed(text, Kind::String, doc),
        Attribute::computed(
            "result",
            Kind::Any,
            "Content decoded from `format`. With `text`, the content without the line breaks at its end.",
        ),
    ]
}

impl Decoding {
    /// Returns the decoding that the arguments of a data source declare.
    pub(crate) fn of(arguments: &Attributes) -> Self {
        let format = match arguments.text("format") {
            Some("json") => Some(TextFormat::Json),
            Some("yaml") => Some(TextFormat::Yaml),
            Some("toml") => Some(TextFormat::Toml),
            _ => None,
        };
        let declared = arguments.get("sensitive").and_then(Value::as_bool);
        let sensitive = declared.unwrap_or_else(|| arguments.values().any(Value::is_sensitive));
        Self { format, sensitive }
    }

    /// Decodes the content `bytes` of `what`. Returns the computed attributes, with the text under `name`.
    ///
    /// # Errors
    /// If the content is not UTF-8 or not valid in its format. The error of a sensitive content contains only the place.
    pub(crate) fn decode(self, what: &str, name: &str, bytes: Vec<u8>) -> Result<Attributes, ProviderError> {
        let invalid = |summary: String| ProviderError::new(Class::Invalid, summary).attribute("format");
        let text = String::from_utf8(bytes)
            .map_err(|_| invalid(format!("{what} is not UTF-8 text")).help("encode it, for example with base64"))?;
        let text = self.mark(Value::from(text));
        let content = text.as_str().unwrap_or_default();
        let result = match self.format {
            None => Value::from(content.trim_end_matches(['\n', '\r'])),
            Some(format) => format.decode(content).map_err(|error| {
                let place = error.place.map(|(line, column)| format!(" (line {line}, column {column})"));
                let place = place.unwrap_or_default();
                match self.sensitive {
                    true => invalid(format!("{what} cannot be decoded{place}: it is not valid {}", name_of(format)))
                        .help("the reason is not shown because the content is sensitive"),
                    false => invalid(format!("{what} cannot be decoded{place}: {}", error.message)),
                }
            })?,
        };
        let result = self.mark(result);
        Ok([(name.to_owned(), text), ("result".to_owned(), result)].into())
    }

    /// Marks a value as sensitive if the content is.
    fn mark(self, value: Value) -> Value {
        if self.sensitive { value.sensitive() } else { value }
    }
}

fn name_of(format: TextFormat) -> &'static str {
    match format {
        TextFormat::Json => "JSON",
        TextFormat::Yaml => "YAML",
        TextFormat::Toml => "TOML",
    }
}

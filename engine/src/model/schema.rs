//! Schemas are data: the same schema checks a manifest, makes the reference documentation and the JSON Schema for editors.

pub(crate) mod conform;
mod duration;

use super::value::{Attributes, Value};

pub use conform::{Faults, conform};
pub(crate) use duration::duration_pattern;
pub use duration::{DURATION_EXAMPLES, parse_duration};

/// The attributes that a block of the manifest takes.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// What the block is for, in Markdown; its first sentence is the summary.
    pub doc: &'static str,
    /// Its attributes, in the order of the documentation.
    pub attributes: Vec<Attribute>,
}

/// One attribute of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its name, as it is written.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// What it does, with units and formats, in Markdown.
    pub doc: &'static str,
    /// Must it be written?
    pub required: bool,
    /// The value where it is not written.
    pub default: Option<Value>,
    /// Does the provider set it? Computed and not optional means that it can't be written.
    pub computed: bool,
    /// Can it be written? Always true unless `computed`.
    pub optional: bool,
    /// Is its value never shown or stored?
    pub sensitive: bool,
    /// Does a change of it need a new object?
    pub forces_replacement: bool,
    /// The attribute of which this one says nothing new, as a digest does: it is not shown beside that one.
    pub restates: Option<&'static str>,
}

/// The type of an attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Any value at all.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// Text.
    String,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A duration such as `90s`, `15m` or `24h`.
    Duration,
    /// A file mode in octal, as a string: `"0644"`.
    Mode,
    /// A list of values of one type.
    List(Box<Kind>),
    /// A map from names to values of one type.
    Map(Box<Kind>),
    /// A table with attributes of its own.
    Object(Vec<Attribute>),
}

impl Schema {
    /// A schema with this documentation and these attributes.
    pub fn new(doc: &'static str, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        Self { doc, attributes: attributes.into_iter().collect() }
    }

    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }
}

impl Attribute {
    /// An attribute that may be written.
    pub fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            doc,
            required: false,
            default: None,
            computed: false,
            optional: true,
            sensitive: false,
            forces_replacement: false,
            restates: None,
        }
    }

    /// An attribute that must be written.
    pub fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { required: true, ..Self::optional(name, kind, doc) }
    }

    /// An attribute that the provider sets and nobody writes.
    pub fn computed(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { computed: true, optional: false, ..Self::optional(name, kind, doc) }
    }

    /// With this value where it is not written.
    pub fn or(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Set by the provider where it is not written.
    pub fn or_computed(mut self) -> Self {
        self.computed = true;
        self
    }

    /// Never shown or stored.
    pub fn secret(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Says nothing that the attribute `other` does not say.
    pub fn restating(mut self, other: &'static str) -> Self {
        self.restates = Some(other);
        self
    }

    /// A change needs a new object.
    pub fn replaces(mut self) -> Self {
        self.forces_replacement = true;
        self
    }
}

impl Kind {
    /// A list of `kind`.
    pub fn list(kind: Kind) -> Self {
        Kind::List(Box::new(kind))
    }

    /// A map of `kind`.
    pub fn map(kind: Kind) -> Self {
        Kind::Map(Box::new(kind))
    }
}

/// Marks the attributes as sensitive that `schema` declares sensitive, whoever they come from.
pub(crate) fn mark_sensitive(schema: &Schema, attributes: Attributes) -> Attributes {
    let mark = |(name, value): (String, Value)| match schema.attribute(&name) {
        // What a provider knows from the record alone is sealed already.
        Some(_) if matches!(&value, Value::Map(map) if map.contains_key(super::value::SENSITIVE_KEY)) => (name, value),
        Some(attribute) if attribute.sensitive => (name, value.sensitive()),
        _ => (name, value),
    };
    attributes.into_iter().map(mark).collect()
}

//! Schemas. The same schema checks manifests and generates the reference documentation and the JSON Schema for editors.

pub(crate) mod conform;
mod duration;

use super::value::Value;

pub use conform::{ConformErrors, conform};
pub(crate) use duration::duration_pattern;
pub use duration::{DURATION_EXAMPLES, parse_duration};

/// The attributes of a block of the manifest.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The description in Markdown. Its first sentence is the summary.
    pub doc: &'static str,
    /// The attributes in the order of the documentation.
    pub attributes: Vec<Attribute>,
}

/// An attribute of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The name in the manifest.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The description in Markdown, with units and formats.
    pub doc: &'static str,
    /// Whether the attribute must be set.
    pub required: bool,
    /// The value if the attribute is not set.
    pub default: Option<Value>,
    /// Whether the provider computes the value if it is not set.
    pub computed: bool,
    /// Whether a change outside moorfast is no drift if the attribute is not set.
    pub kept: bool,
    /// Whether the attribute can be set. False only for a computed attribute.
    pub optional: bool,
    /// Whether the value is never shown or stored.
    pub sensitive: bool,
    /// Whether a change forces the replacement of the object.
    pub forces_replacement: bool,
    /// The attribute from which this one is derived, as a digest is. A plan that shows that attribute does not show this one.
    pub derived_from: Option<&'static str>,
    /// Whether the value is the time at which the object expires, as in RFC 3339. `drift --metrics` shows how long that is.
    pub is_expiry: bool,
    /// Whether the object only reports the value, and other objects decide it: the version of a kubelet, which its Node reports. An apply reads it again after it
    /// changed what the instance depends on. Another change is drift until a refresh accepts it.
    pub is_reported: bool,
    /// Whether the value only tells moorfast how to work, so that the object is the same with another value: whether missing parent directories are created. Its change
    /// restarts nothing.
    pub is_instruction: bool,
}

/// The type of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Any value.
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
    /// A table with its own attributes.
    Object(Vec<Attribute>),
}

impl Schema {
    /// Creates a schema.
    pub fn new(doc: &'static str, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        Self { doc, attributes: attributes.into_iter().collect() }
    }

    /// Returns the names of the attributes that an object only reports.
    pub(crate) fn reported(&self) -> impl Iterator<Item = &'static str> {
        self.attributes.iter().filter(|attribute| attribute.is_reported).map(|attribute| attribute.name)
    }

    /// Returns the attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }
}

impl Attribute {
    /// Creates an optional attribute.
    pub fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            doc,
            required: false,
            default: None,
            computed: false,
            kept: false,
            optional: true,
            sensitive: false,
            forces_replacement: false,
            derived_from: None,
            is_expiry: false,
            is_reported: false,
            is_instruction: false,
        }
    }

    /// Creates a required attribute.
    pub fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { required: true, ..Self::optional(name, kind, doc) }
    }

    /// Creates an attribute that the provider computes and that cannot be set.
    pub fn computed(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { computed: true, optional: false, ..Self::optional(name, kind, doc) }
    }

    /// Sets the default.
    pub fn or(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Lets the provider compute the value if it is not set.
    pub fn or_computed(mut self) -> Self {
        self.computed = true;
        self
    }

    /// Lets the object keep its value if the attribute is not set. A change outside moorfast is then no drift, because the manifest says nothing about it.
    pub fn or_kept(mut self) -> Self {
        self.kept = true;
        self.or_computed()
    }

    /// Marks the attribute as sensitive.
    pub fn secret(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Declares that the value is derived from the attribute `other`.
    pub fn derived_from(mut self, other: &'static str) -> Self {
        self.derived_from = Some(other);
        self
    }

    /// Declares that the value is the time at which the object expires.
    pub fn expiry(mut self) -> Self {
        self.is_expiry = true;
        self
    }

    /// Declares that the object only reports the value, and that other objects decide it.
    pub fn reported(mut self) -> Self {
        self.is_reported = true;
        self
    }

    /// Declares that the value only tells moorfast how to work with the object.
    pub fn instruction(mut self) -> Self {
        self.is_instruction = true;
        self
    }

    /// Declares that a change forces the replacement of the object.
    pub fn replaces(mut self) -> Self {
        self.forces_replacement = true;
        self
    }

    /// Marks a value of the attribute as sensitive if the attribute is sensitive.
    pub(crate) fn mark(&self, value: Value) -> Value {
        if self.sensitive { value.sensitive() } else { value }
    }
}

impl Kind {
    /// Creates the type of a list of `kind`.
    pub fn list(kind: Kind) -> Self {
        Kind::List(Box::new(kind))
    }

    /// Creates the type of a map of `kind`.
    pub fn map(kind: Kind) -> Self {
        Kind::Map(Box::new(kind))
    }
}

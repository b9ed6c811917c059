//! Builds values from the events of the YAML parser: aliases, merge keys, scalar keys and tags.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, StrInput, Tag};

use super::scalar::resolve;
use super::{YamlDocument, YamlError};
use crate::model::Value;
use crate::model::convert::to_text;

/// The maximum number of values of a text, because nested aliases grow exponentially.
const MAX_VALUES: usize = 1_000_000;

/// The namespace of the standard tags, such as `!!int`.
const YAML_TAGS: &str = "tag:yaml.org,2002:";

pub(super) struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// The values of the anchors of the document. `None` while the value is being built.
    anchors: HashMap<usize, Option<Anchored>>,
    /// The number of values so far.
    values: usize,
}

#[derive(Clone)]
struct Anchored {
    value: Value,
    values: usize,
}

type Built<T = Value> = Result<T, YamlError>;

impl<'t> Builder<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        Self { parser: Parser::new_from_str_with_options(text, options), anchors: HashMap::new(), values: 0 }
    }

    pub(super) fn documents(mut self) -> Built<Vec<YamlDocument>> {
        let mut documents = Vec::new();
        while let Some((event, at)) = self.next()? {
            match event {
                Event::DocumentStart(..) => self.anchors.clear(),
                Event::StreamStart | Event::DocumentEnd | Event::StreamEnd => {}
                node => documents.push(YamlDocument { value: self.node(node, at)?, line: at.line() }),
            }
        }
        Ok(documents)
    }

    fn next(&mut self) -> Built<Option<(Event<'t>, Marker)>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, span.start))),
            Some(Err(scan)) => Err(error(*scan.marker(), scan.info())),
        }
    }

    /// Returns the next event, which must exist.
    fn next_node(&mut self) -> Built<(Event<'t>, Marker)> {
        self.next()?.ok_or_else(|| error(Marker::new(0, 1, 0), "unexpected end of the text"))
    }

    fn node(&mut self, event: Event<'t>, at: Marker) -> Built {
        let before = self.values;
        self.count(1, at)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref(), at)?),
            Event::SequenceStart(_, anchor, _) => {
                self.start_anchor(anchor);
                (anchor, self.sequence()?)
            }
            Event::MappingStart(_, anchor, _) => {
                self.start_anchor(anchor);
                (anchor, self.mapping()?)
            }
            _ => return Err(error(at, "a value is expected here")),
        };
        if anchor > 0 {
            let values = self.values - before;
            self.anchors.insert(anchor, Some(Anchored { value: value.clone(), values }));
        }
        Ok(value)
    }

    fn start_anchor(&mut self, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
    }

    fn count(&mut self, more: usize, at: Marker) -> Built<()> {
        self.values = self.values.saturating_add(more);
        if self.values > MAX_VALUES {
            return Err(error(
                at,
                format!("the text has more than {MAX_VALUES} values after its aliases are expanded"),
            ));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Marker) -> Built {
        match self.anchors.get(&anchor).cloned() {
            Some(Some(Anchored { value, values })) => {
                self.count(values, at)?;
                Ok(value)
            }
            Some(None) => Err(error(at, "this alias refers to a value that contains it")),
            None => Err(error(at, "unknown anchor")),
        }
    }

    fn sequence(&mut self) -> Built {
        let mut items = Vec::new();
        loop {
            match self.next_node()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.node(event, at)?),
            }
        }
    }

    fn mapping(&mut self) -> Built {
        let (mut map, mut written) = (BTreeMap::new(), BTreeSet::new());
        loop {
            let (event, at) = self.next_node()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(map.into()));
            }
            let is_merge = is_merge(&event);
            let key = self.node(event, at)?;
            let (event, value_at) = self.next_node()?;
            let value = self.node(event, value_at)?;
            if is_merge {
                merge(&mut map, value, value_at)?;
                continue;
            }
            let key = key_text(&key).map_err(|message| error(at, message))?;
            if !written.insert(key.clone()) {
                return Err(error(at, format!("duplicate key `{key}`")));
            }
            map.insert(key, value);
        }
    }
}

fn error(at: Marker, message: impl Into<String>) -> YamlError {
    YamlError { line: at.line(), column: at.col() + 1, message: message.into() }
}

fn is_merge(key: &Event) -> bool {
    matches!(key, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<")
}

/// Merges as kubectl does: later keys and merges take precedence, in a list of maps the first map.
fn merge(map: &mut BTreeMap<String, Value>, value: Value, at: Marker) -> Built<()> {
    let maps = match value {
        Value::List(items) => items.into_iter().rev().collect(),
        one => vec![one],
    };
    for one in maps {
        match one {
            Value::Map(members) => map.extend(members),
            _ => return Err(error(at, "`<<` needs a map or a list of maps")),
        }
    }
    Ok(())
}

/// Returns a key as a string. Numbers and bools become their JSON text.
fn key_text(key: &Value) -> Result<String, String> {
    to_text(key).ok_or_else(|| match key {
        Value::Null => "a key must be a string, not null; write it in quotes".to_owned(),
        other => format!("a key must be a string, not a {}", other.type_name()),
    })
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Marker) -> Built {
    let Some(tag) = tag else {
        return match style {
            ScalarStyle::Plain => resolve(text).map_err(|message| error(at, message)),
            _ => Ok(Value::from(text)),
        };
    };
    let resolved = || resolve(text).map_err(|message| error(at, message));
    let value = match tag.suffix_in_namespace(YAML_TAGS).as_deref() {
        Some("int") => Some(resolved()?).filter(|value| value.as_i128().is_some()),
        Some("float") => Some(resolved()?).filter(|value| matches!(value, Value::Number(_))),
        Some("bool") => Some(resolved()?).filter(|value| matches!(value, Value::Bool(_))),
        Some("null") => Some(resolved()?).filter(Value::is_null),
        Some("binary") => {
            let compact: String = text.split_whitespace().collect();
            let bytes = STANDARD.decode(compact).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Value::String)
        }
        _ => Some(Value::from(text)),
    };
    value.ok_or_else(|| error(at, format!("the value does not match its tag `{}`", tag.original())))
}

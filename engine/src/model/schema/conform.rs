//! Conforming evaluated attributes to a schema: defaults, conversions, checks and sensitivity.

use super::{Attribute, DURATION_EXAMPLES, Kind, Schema, parse_duration};
use crate::model::convert::{to_bool, to_number, to_text};
use crate::model::diagnostic::quoted_list;
use crate::model::number::integer;
use crate::model::{Attributes, Value, ValueMap, nearest};

/// The errors of [`conform`]: the path of each invalid attribute (`spec.ports[0]`) and the message, which shows no sensitive value.
pub type ConformErrors = Vec<(String, String)>;

/// Returns the attributes as the schema declares them: with defaults, converted as Terraform does (numbers and bools to strings and back), and with
/// sensitive attributes marked. Unknown and retained values are valid for every type. A null attribute counts as not set.
///
/// # Errors
/// Returns an entry for each attribute that does not conform.
pub fn conform(schema: &Schema, attributes: Attributes) -> Result<Attributes, ConformErrors> {
    object(&schema.attributes, attributes, "")
}

fn object(schema: &[Attribute], mut members: ValueMap, path: &str) -> Result<ValueMap, ConformErrors> {
    let (mut conformed, mut errors) = (ValueMap::new(), ConformErrors::new());
    for attribute in schema {
        let name = join(path, attribute.name);
        // Marked before the checks, so that no message shows it.
        let written =
            members.remove(attribute.name).filter(|value| !value.is_null()).map(|value| attribute.mark(value));
        let value = match written {
            Some(_) if !attribute.optional => {
                errors.push((name, "is computed by the provider and cannot be set".to_owned()));
                continue;
            }
            Some(value) => match self::value(&attribute.kind, value, &name) {
                Ok(value) => value,
                Err(more) => {
                    errors.extend(more);
                    continue;
                }
            },
            None if attribute.required => {
                errors.push((name, "missing required attribute".to_owned()));
                continue;
            }
            None => match &attribute.default {
                Some(default) => attribute.mark(default.clone()),
                None => continue,
            },
        };
        conformed.insert(attribute.name.to_owned(), value);
    }
    for unknown in members.keys() {
        let names = schema.iter().filter(|attribute| attribute.optional).map(|attribute| attribute.name);
        let hint = nearest(unknown, names).map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
        errors.push((join(path, unknown), format!("unknown attribute{hint}")));
    }
    if errors.is_empty() { Ok(conformed) } else { Err(errors) }
}

/// Returns the value converted to `kind`. The errors name `path`.
pub(crate) fn value(kind: &Kind, value: Value, path: &str) -> Result<Value, ConformErrors> {
    if let Value::Sensitive(_) = value {
        return match self::value(kind, value.reveal().clone(), path) {
            Ok(converted) => Ok(converted.with(&value.secrecy())),
            // A message about a sensitive value shows only what is expected. Even the keys inside it may be secret.
            Err(errors) => {
                let is_inside = errors.iter().any(|(inner, _)| inner != path);
                let hidden =
                    if is_inside { "; what is invalid inside it is not shown, because it is sensitive" } else { "" };
                Err(vec![(path.to_owned(), format!("must be {}{hidden}", kind.describe()))])
            }
        };
    }
    let invalid = |detail: String| vec![(path.to_owned(), detail)];
    let mismatch = |value: &Value| {
        let found = match (kind, value) {
            (Kind::Integer, Value::Number(number)) if integer(number).is_some() => "number beyond 64 bits",
            (Kind::Integer, Value::Number(_)) => "fraction",
            _ => value.type_name(),
        };
        invalid(format!("must be {}, not a {found}", kind.describe()))
    };
    Ok(match (kind, value) {
        (Kind::Any, value) | (_, value @ (Value::Null | Value::Unknown | Value::Retained)) => value,
        (Kind::Bool, value) => Value::Bool(to_bool(&value).ok_or_else(|| mismatch(&value))?),
        (Kind::Number, value) => Value::Number(to_number(&value).ok_or_else(|| mismatch(&value))?),
        (Kind::Integer, value) => {
            let number = to_number(&value).map(Value::Number).and_then(|number| number.as_i64());
            Value::from(number.ok_or_else(|| mismatch(&value))?)
        }
        (Kind::String, value) => Value::String(to_text(&value).ok_or_else(|| mismatch(&value))?),
        (Kind::OneOf(words), value) => {
            let text = to_text(&value).ok_or_else(|| mismatch(&value))?;
            if !words.contains(&text.as_str()) {
                let hint = nearest(&text, words.iter().copied()).map(|nearest| format!("; did you mean `{nearest}`?"));
                return Err(invalid(format!("must be {}, not `{text}`{}", kind.describe(), hint.unwrap_or_default())));
            }
            Value::String(text)
        }
        (Kind::Duration, value) => {
            let text = value.as_str().ok_or_else(|| mismatch(&value))?;
            if parse_duration(text).is_none() {
                return Err(invalid(format!("must be {}, not `{text}`", kind.describe())));
            }
            value
        }
        (Kind::Mode, value) => mode(&value).ok_or_else(|| invalid(format!("must be {}", kind.describe())))?,
        (Kind::List(inner), Value::List(items)) => {
            let convert = |(i, item)| self::value(inner, item, &format!("{path}[{i}]"));
            Value::List(collect(items.into_iter().enumerate().map(convert))?)
        }
        (Kind::Map(inner), Value::Map(map)) => {
            let (keys, values): (Vec<String>, Vec<Value>) = map.into_iter().unzip();
            let convert = |(key, value): (&String, Value)| self::value(inner, value, &join(path, key));
            let values = collect(keys.iter().zip(values).map(convert))?;
            Value::Map(keys.into_iter().zip(values).collect())
        }
        (Kind::Object(attributes), Value::Map(map)) => Value::Map(object(attributes, map, path)?),
        (_, value) => return Err(mismatch(&value)),
    })
}

/// Returns a file mode as four octal digits.
fn mode(value: &Value) -> Option<Value> {
    let text = value.as_str()?;
    let mode =
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && text.len() <= 5 && text.len() >= 3)?;
    Some(Value::String(format!("{mode:04o}")))
}

fn collect(values: impl Iterator<Item = Result<Value, ConformErrors>>) -> Result<Vec<Value>, ConformErrors> {
    let (mut good, mut errors) = (Vec::new(), ConformErrors::new());
    for value in values {
        match value {
            Ok(value) => good.push(value),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(good) } else { Err(errors) }
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Kind {
    /// Returns the description for messages and documentation: `a list of strings`.
    pub fn describe(&self) -> String {
        match self {
            Kind::Any => "any value".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer => "a whole number".to_owned(),
            Kind::Number => "a number".to_owned(),
            Kind::String => "a string".to_owned(),
            Kind::OneOf(words) => format!("one of {}", quoted_list(words).replace(" and ", " or ")),
            Kind::Duration => DURATION_EXAMPLES.to_owned(),
            Kind::Mode => "a file mode in octal, as the string \"0644\"".to_owned(),
            Kind::List(inner) => format!("a list of {}", inner.plural()),
            Kind::Map(inner) => format!("a map of {}", inner.plural()),
            Kind::Object(_) => "a table".to_owned(),
        }
    }

    fn plural(&self) -> String {
        match self {
            Kind::Any => "any values".to_owned(),
            Kind::Bool => "bools".to_owned(),
            Kind::Integer => "whole numbers".to_owned(),
            Kind::Number => "numbers".to_owned(),
            Kind::String => "strings".to_owned(),
            Kind::OneOf(words) => format!("{} words", quoted_list(words).replace(" and ", " or ")),
            Kind::Duration => "durations".to_owned(),
            Kind::Mode => "file modes".to_owned(),
            Kind::List(inner) => format!("lists of {}", inner.plural()),
            Kind::Map(inner) => format!("maps of {}", inner.plural()),
            Kind::Object(_) => "tables".to_owned(),
        }
    }
}

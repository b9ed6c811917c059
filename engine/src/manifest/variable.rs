//! `[variables.NAME]` and the types of variables.

use std::collections::BTreeMap;
use std::fmt;

use hcl::edit::expr::{Expression, FuncCall, ObjectKey};
use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::Reader;
use super::resource::conditions;
use super::{ObjectAttribute, Variable, VariableType};
use crate::expression::{literal_number, set};
use crate::model::convert::{to_bool, to_number, to_text};
use crate::model::{Diagnostic, Span, Value, ValueMap, nearest};

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let block = format!("the variable `{name}`");
    let Some(mut fields) = reader.fields(table, &block) else { return };
    let kind = fields.take("type");
    let kind_span = kind.as_ref().map(|entry| reader.span(entry.value.span()));
    let kind = match (reader.text(kind), kind_span) {
        (Some(text), Some(span)) => text.parse().unwrap_or_else(|message: String| {
            reader.error(span, format!("`{text}` is not a valid variable type"), message);
            VariableType::Any
        }),
        _ => VariableType::Any,
    };
    let default = fields.take("default").map(|entry| default(reader, entry.value, &kind));
    let sensitive = reader.flag(fields.take("sensitive")).unwrap_or(false);
    let variable = Variable {
        span: reader.span(table.span()),
        kind,
        default: default.flatten().map(|value| if sensitive { value.sensitive() } else { value }),
        description: reader.text(fields.take("description")),
        sensitive,
        validations: conditions(reader, fields.take("validation")),
    };
    reader.finish(fields, &block);
    loader.manifest.variables.insert(name.to_owned(), variable);
}

/// Reads the default of a variable: a literal value of its type.
fn default<'a>(reader: &mut Reader<'a>, value: &'a Spanned<DeValue<'a>>, kind: &VariableType) -> Option<Value> {
    let (literal, span) = literal(reader, value, "the default of a variable")?;
    match kind.convert(literal) {
        Ok(value) => Some(value),
        Err(message) => {
            reader
                .diagnostics
                .push(Diagnostic::error("the default does not have the variable's type").at(span, message));
            None
        }
    }
}

/// Reads a value that cannot be an expression, with its place.
pub(super) fn literal<'a>(
    reader: &mut Reader<'a>,
    value: &'a Spanned<DeValue<'a>>,
    what: &str,
) -> Option<(Value, Span)> {
    let errors = reader.diagnostics.len();
    let expr = reader.expr(value);
    if reader.diagnostics.len() > errors {
        return None;
    }
    let literal = expr.as_literal();
    if literal.is_none() {
        let help = "define computed values in [locals]; write `$${` for a literal `${`".to_owned();
        let summary = format!("{what} must be a literal value, not an expression");
        reader.error_with(expr.span, summary, Some(help));
    }
    Some((literal?, expr.span))
}

impl Variable {
    /// Returns a value of this variable converted to its type, and sensitive if the variable is.
    ///
    /// # Errors
    /// Returns a message without the value if the value cannot be converted.
    pub(crate) fn convert(&self, value: Value) -> Result<Value, String> {
        self.kind.convert(if self.sensitive { value.sensitive() } else { value })
    }

    /// Returns an unknown value of this variable.
    pub(super) fn unknown(&self) -> Value {
        let value = self.kind.unknown();
        if self.sensitive { value.sensitive() } else { value }
    }
}

impl std::str::FromStr for VariableType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expression = hcl::edit::parser::parse_expr(text).map_err(|_| examples())?;
        parse_type(&expression)
    }
}

fn examples() -> String {
    "types are string, number, bool, any, list(string), map(number), object({ name = string })".to_owned()
}

fn parse_type(expression: &Expression) -> Result<VariableType, String> {
    match expression {
        Expression::Variable(name) => match name.as_str() {
            "any" => Ok(VariableType::Any),
            "string" => Ok(VariableType::String),
            "number" => Ok(VariableType::Number),
            "bool" => Ok(VariableType::Bool),
            "list" => Ok(VariableType::List(Box::new(VariableType::Any))),
            "set" => Ok(VariableType::Set(Box::new(VariableType::Any))),
            "map" => Ok(VariableType::Map(Box::new(VariableType::Any))),
            other => Err(match nearest(other, ["any", "string", "number", "bool", "list", "set", "map", "object"]) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => examples(),
            }),
        },
        Expression::FuncCall(call) => {
            if call.name.name.as_str() == "optional" {
                return Err("`optional` is for attributes of an object".to_owned());
            }
            let argument = single_argument(call)?;
            match call.name.name.as_str() {
                "list" => Ok(VariableType::List(Box::new(parse_type(argument)?))),
                "set" => Ok(VariableType::Set(Box::new(parse_type(argument)?))),
                "map" => Ok(VariableType::Map(Box::new(parse_type(argument)?))),
                "object" => object_type(argument),
                _ => Err(examples()),
            }
        }
        Expression::Parenthesis(inner) => parse_type(inner.inner()),
        _ => Err(examples()),
    }
}

fn single_argument(call: &FuncCall) -> Result<&Expression, String> {
    match (call.args.len(), call.args.get(0)) {
        (1, Some(argument)) => Ok(argument),
        _ => Err(format!("`{}` takes one type", call.name.name.as_str())),
    }
}

fn object_type(argument: &Expression) -> Result<VariableType, String> {
    let Expression::Object(object) = argument else {
        return Err("an object type is written as object({ name = string })".to_owned());
    };
    let mut attributes = BTreeMap::new();
    for (key, value) in object.iter() {
        let name = object_key(key)?;
        let attribute = match value.expr() {
            Expression::FuncCall(call) if call.name.name.as_str() == "optional" => optional(call)?,
            other => ObjectAttribute { kind: parse_type(other)?, default: None },
        };
        attributes.insert(name, attribute);
    }
    Ok(VariableType::Object(attributes))
}

/// Parses `optional(TYPE)` or `optional(TYPE, DEFAULT)`.
fn optional(call: &FuncCall) -> Result<ObjectAttribute, String> {
    let (kind, default) = match (call.args.get(0), call.args.get(1), call.args.len()) {
        (Some(kind), None, 1) => (parse_type(kind)?, Value::Null),
        (Some(kind), Some(default), 2) => (parse_type(kind)?, constant(default)?),
        _ => return Err("`optional` takes a type and an optional default: optional(number, 80)".to_owned()),
    };
    let default = kind.convert(default).map_err(|message| format!("the default of `optional`: {message}"))?;
    Ok(ObjectAttribute { kind, default: Some(default) })
}

/// Returns the value of an expression without references and calls.
fn constant(expression: &Expression) -> Result<Value, String> {
    Ok(match expression {
        Expression::Null(_) => Value::Null,
        Expression::Bool(truth) => Value::Bool(*truth.value()),
        Expression::Number(number) => Value::Number(literal_number(number)?),
        Expression::String(text) => Value::from(text.as_str()),
        Expression::Parenthesis(inner) => constant(inner.inner())?,
        Expression::Array(items) => Value::List(items.iter().map(constant).collect::<Result<_, _>>()?),
        Expression::Object(object) => {
            let members = object.iter().map(|(key, value)| Ok((object_key(key)?, constant(value.expr())?)));
            Value::Map(members.collect::<Result<_, String>>()?)
        }
        _ => return Err("the default of `optional` must be a literal value, not an expression".to_owned()),
    })
}

fn object_key(key: &ObjectKey) -> Result<String, String> {
    match key {
        ObjectKey::Ident(name) => Ok(name.as_str().to_owned()),
        ObjectKey::Expression(expression) => {
            Ok(expression.as_str().ok_or("a name is expected before the `=`")?.to_owned())
        }
    }
}

impl VariableType {
    /// Returns an unknown value of this type. The attributes of an object are known by their names, so that a wrong name is still an error.
    fn unknown(&self) -> Value {
        match self {
            VariableType::Object(attributes) => Value::Map(
                attributes.iter().map(|(name, attribute)| (name.clone(), attribute.kind.unknown())).collect(),
            ),
            _ => Value::Unknown,
        }
    }

    /// Returns the value converted to this type as Terraform does: numbers and bools to strings and back.
    ///
    /// # Errors
    /// Returns a message without the value if the value cannot be converted.
    pub fn convert(&self, value: Value) -> Result<Value, String> {
        self.convert_at(value, "")
    }

    fn convert_at(&self, value: Value, path: &str) -> Result<Value, String> {
        let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
        if let Value::Sensitive(_) = value {
            let converted = self.convert_at(value.reveal().clone(), path);
            // Even the keys inside a sensitive value may be secret.
            return Ok(converted.map_err(|_| format!("{place}must be of type {self}"))?.with(&value.secrecy()));
        }
        let mismatch = |value: &Value| format!("{place}must be of type {self}, not a {}", value.type_name());
        Ok(match (self, value) {
            (VariableType::Any, value) | (_, value @ (Value::Null | Value::Unknown | Value::Retained)) => value,
            (VariableType::String, value) => Value::String(to_text(&value).ok_or_else(|| mismatch(&value))?),
            (VariableType::Number, value) => Value::Number(to_number(&value).ok_or_else(|| mismatch(&value))?),
            (VariableType::Bool, value) => Value::Bool(to_bool(&value).ok_or_else(|| mismatch(&value))?),
            (VariableType::List(kind), Value::List(items)) => {
                let convert = |(i, item)| kind.convert_at(item, &format!("{path}[{i}]"));
                Value::List(items.into_iter().enumerate().map(convert).collect::<Result<_, _>>()?)
            }
            (VariableType::Set(kind), list @ Value::List(_)) => {
                match VariableType::List(kind.clone()).convert_at(list, path)? {
                    Value::List(items) => set(items),
                    other => other,
                }
            }
            (VariableType::Map(kind), Value::Map(map)) => {
                let convert = |(key, value): (String, Value)| {
                    let value = kind.convert_at(value, &join(path, &key))?;
                    Ok::<_, String>((key, value))
                };
                Value::Map(map.into_iter().map(convert).collect::<Result<_, _>>()?)
            }
            (VariableType::Object(attributes), Value::Map(map)) => object(attributes, map, path)?,
            (_, value) => return Err(mismatch(&value)),
        })
    }
}

fn object(attributes: &BTreeMap<String, ObjectAttribute>, mut map: ValueMap, path: &str) -> Result<Value, String> {
    let mut object = ValueMap::new();
    for (name, ObjectAttribute { kind, default }) in attributes {
        let value = match (map.remove(name), default) {
            (None | Some(Value::Null), Some(default)) => default.clone(),
            (Some(value), _) => kind.convert_at(value, &join(path, name))?,
            (None, None) => return Err(format!("missing required attribute `{}`", join(path, name))),
        };
        object.insert(name.clone(), value);
    }
    match map.keys().next() {
        None => Ok(Value::Map(object)),
        Some(unknown) => {
            let names = attributes.keys().map(String::as_str);
            let hint = nearest(unknown, names).map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
            Err(format!("unknown attribute `{}`{hint}", join(path, unknown)))
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl fmt::Display for VariableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VariableType::Any => f.write_str("any"),
            VariableType::String => f.write_str("string"),
            VariableType::Number => f.write_str("number"),
            VariableType::Bool => f.write_str("bool"),
            VariableType::List(kind) => write!(f, "list({kind})"),
            VariableType::Set(kind) => write!(f, "set({kind})"),
            VariableType::Map(kind) => write!(f, "map({kind})"),
            VariableType::Object(attributes) => {
                let attributes: Vec<String> = attributes
                    .iter()
                    .map(|(name, ObjectAttribute { kind, default })| match default {
                        None => format!("{name} = {kind}"),
                        Some(_) => format!("{name} = optional({kind})"),
                    })
                    .collect();
                write!(f, "object({{ {} }})", attributes.join(", "))
            }
        }
    }
}

//! Functions on strings.

use regex::{Captures, Regex};
use serde_json::Number;

use super::{Arguments, Body, CallError, Family, Function, Lazy, plain_error, quoting_error};
use crate::expression::functions::encoding::to_json_text;
use crate::model::Value;
use crate::model::convert::{to_bool, to_number, to_text};
use crate::model::number::{exact_f64, integer, number_text};

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::String,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    let lazy = |name, parameters, doc, lazy| Function {
        name,
        family: Family::String,
        parameters,
        doc,
        body: Body::Lazy(lazy),
    };
    vec![
        function("chomp", &["text"], "The text without trailing newlines.", |a| {
            Ok(Value::from(a.text(0)?.trim_end_matches(['\r', '\n'])))
        }),
        function("endswith", &["text", "suffix"], "Whether the text ends with the suffix.", |a| {
            Ok(Value::from(a.text(0)?.ends_with(&a.text(1)?)))
        }),
        function(
            "format",
            &["format", "values..."],
            "The format string with its verbs replaced by the values: `%s`, `%d`, `%05.2f`, `%q`, `%x`, `%t`, `%v`, `%%`.",
            |a| Ok(Value::from(format_text(&a.text(0)?, a.rest(1))?)),
        ),
        function(
            "formatlist",
            &["format", "lists..."],
            "The list of the results of `format` for the items at each index of the lists.",
            formatlist,
        ),
        function(
            "indent",
            &["spaces", "text"],
            "The text with all lines except the first indented by this number of spaces.",
            |a| Ok(Value::from(a.text(1)?.replace('\n', &format!("\n{}", " ".repeat(bounded(a, 0)?))))),
        ),
        function("join", &["separator", "lists..."], "The strings of the lists, joined with the separator.", |a| {
            let texts: Vec<Vec<String>> = (1..a.len()).map(|at| a.texts(at)).collect::<Result<_, _>>()?;
            Ok(Value::from(texts.concat().join(&a.text(0)?)))
        }),
        function("lower", &["text"], "The text in lower case.", |a| Ok(Value::from(a.text(0)?.to_lowercase()))),
        function(
            "regex",
            &["pattern", "text"],
            "The first match of the regular expression: the text, or a list or map of its groups. It is an error if there is no match.",
            |a| {
                let (pattern, text) = (pattern(&a.text(0)?)?, a.text(1)?);
                let captures = pattern
                    .captures(&text)
                    .ok_or_else(|| quoting_error(format!("`{text}` does not match `{pattern}`")))?;
                Ok(groups(&pattern, &captures))
            },
        ),
        function(
            "regexall",
            &["pattern", "text"],
            "The list of all matches of the regular expression, each as in `regex`.",
            |a| {
                let (pattern, text) = (pattern(&a.text(0)?)?, a.text(1)?);
                Ok(Value::List(pattern.captures_iter(&text).map(|captures| groups(&pattern, &captures)).collect()))
            },
        ),
        function(
            "replace",
            &["text", "part", "replacement"],
            "The text with each occurrence of the part replaced. A part in slashes, `/…/`, is a regular expression.",
            replace,
        ),
        function("split", &["separator", "text"], "The text split at the separators.", |a| {
            let (separator, text) = (a.text(0)?, a.text(1)?);
            Ok(match (separator.as_str(), text.as_str()) {
                (_, "") => Value::List(vec![Value::from("")]),
                ("", text) => Value::List(text.chars().map(|c| Value::from(c.to_string())).collect()),
                (separator, text) => Value::List(text.split(separator).map(Value::from).collect()),
            })
        }),
        function("startswith", &["text", "prefix"], "Whether the text starts with the prefix.", |a| {
            Ok(Value::from(a.text(0)?.starts_with(&a.text(1)?)))
        }),
        function("strcontains", &["text", "part"], "Whether the text contains the part.", |a| {
            Ok(Value::from(a.text(0)?.contains(&a.text(1)?)))
        }),
        function("strrev", &["text"], "The text with its characters in reverse order.", |a| {
            Ok(Value::from(a.text(0)?.chars().rev().collect::<String>()))
        }),
        function(
            "substr",
            &["text", "offset", "length"],
            "The substring of `length` characters from the offset on. A negative offset counts from the end, the length -1 means the rest of the text.",
            substr,
        ),
        lazy(
            "templatestring",
            &["template", "variables"],
            "The string rendered as a template with the map of variables.",
            Lazy::Templatestring,
        ),
        function("title", &["text"], "The text with the first letter of each word in upper case.", |a| {
            let mut previous = ' ';
            let text = a.text(0)?;
            let raised = text.chars().flat_map(|c| {
                let starts = !previous.is_alphanumeric() && previous != '\'';
                previous = c;
                if starts { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
            });
            Ok(Value::from(raised.collect::<String>()))
        }),
        function("trim", &["text", "characters"], "The text without these leading and trailing characters.", |a| {
            let characters: Vec<char> = a.text(1)?.chars().collect();
            Ok(Value::from(a.text(0)?.trim_matches(characters.as_slice())))
        }),
        function(
            "trimprefix",
            &["text", "prefix"],
            "The text without the prefix. Unchanged if it does not start with the prefix.",
            |a| {
                let (text, prefix) = (a.text(0)?, a.text(1)?);
                Ok(Value::from(text.strip_prefix(&prefix).unwrap_or(&text)))
            },
        ),
        function("trimspace", &["text"], "The text without leading and trailing white space.", |a| {
            Ok(Value::from(a.text(0)?.trim()))
        }),
        function(
            "trimsuffix",
            &["text", "suffix"],
            "The text without the suffix. Unchanged if it does not end with the suffix.",
            |a| {
                let (text, suffix) = (a.text(0)?, a.text(1)?);
                Ok(Value::from(text.strip_suffix(&suffix).unwrap_or(&text)))
            },
        ),
        function("upper", &["text"], "The text in upper case.", |a| Ok(Value::from(a.text(0)?.to_uppercase()))),
    ]
}

/// Returns a number of spaces that is limited, so that it cannot exhaust memory.
fn bounded(a: &Arguments, at: usize) -> Result<usize, CallError> {
    Some(a.size(at)?).filter(|size| *size <= 1024).ok_or_else(|| a.expected(at, "a whole number from 0 to 1024"))
}

fn pattern(text: &str) -> Result<Regex, CallError> {
    Regex::new(text).map_err(|error| {
        let error = error.to_string();
        quoting_error(format!(
            "`{text}` is not a valid regular expression: {}",
            error.lines().last().unwrap_or_default().trim_start_matches("error: ")
        ))
    })
}

/// Returns a match: its named groups as a map, its other groups as a list, or the whole text if it has no groups.
fn groups(pattern: &Regex, captures: &Captures) -> Value {
    let text = |group: Option<regex::Match>| group.map_or(Value::Null, |group| Value::from(group.as_str()));
    let names: Vec<&str> = pattern.capture_names().flatten().collect();
    if !names.is_empty() {
        return Value::Map(names.into_iter().map(|name| (name.to_owned(), text(captures.name(name)))).collect());
    }
    if captures.len() > 1 {
        return Value::List(captures.iter().skip(1).map(text).collect());
    }
    text(captures.get(0))
}

fn replace(a: &Arguments) -> Result<Value, CallError> {
    let (text, part, replacement) = (a.text(0)?, a.text(1)?, a.text(2)?);
    let inner = part.strip_prefix('/').and_then(|part| part.strip_suffix('/'));
    Ok(Value::from(match inner {
        Some(inner) => pattern(inner)?.replace_all(&text, replacement).into_owned(),
        None => text.replace(&part, &replacement),
    }))
}

fn substr(a: &Arguments) -> Result<Value, CallError> {
    let (text, offset, length) = (a.text(0)?, a.integer(1)?, a.integer(2)?);
    let count = text.chars().count();
    let skipped = match usize::try_from(offset) {
        Ok(offset) => offset,
        Err(_) if offset > 0 => count,
        // An offset before the start counts as the start.
        Err(_) => count.saturating_sub(usize::try_from(offset.unsigned_abs()).unwrap_or(count)),
    };
    let taken = usize::try_from(length).unwrap_or(count);
    Ok(Value::from(text.chars().skip(skipped).take(taken).collect::<String>()))
}

fn formatlist(a: &Arguments) -> Result<Value, CallError> {
    let format = a.text(0)?;
    let lengths: Vec<usize> = a.rest(1).iter().filter_map(|value| value.as_list().map(<[Value]>::len)).collect();
    let length = lengths.first().copied().unwrap_or(1);
    if lengths.iter().any(|other| *other != length) {
        return Err(plain_error("the lists of `formatlist` must have the same length"));
    }
    let formatted = (0..length).map(|i| {
        let item = |value: &Value| value.as_list().map_or_else(|| Some(value.clone()), |items| items.get(i).cloned());
        let values: Vec<Value> = a.rest(1).iter().filter_map(item).collect();
        format_text(&format, &values).map(Value::from)
    });
    formatted.collect::<Result<Vec<_>, _>>().map(Value::List)
}

/// A verb of a format string: `%-08.3f`, `%[1]s`.
#[derive(Default)]
struct Verb {
    flags: String,
    width: Option<usize>,
    precision: Option<usize>,
    index: Option<usize>,
    letter: char,
}

fn format_text(format: &str, values: &[Value]) -> Result<String, CallError> {
    let (mut out, mut rest, mut next) = (String::new(), format, 0);
    let mut indexed = false;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (verb, after) = verb(&rest[at + 1..])?;
        rest = after;
        if verb.letter == '%' {
            out.push('%');
            continue;
        }
        indexed |= verb.index.is_some();
        let position = verb.index.map_or(next, |index| index - 1);
        let value = values.get(position).ok_or_else(|| plain_error("`format` has more verbs than values"))?;
        next = position + 1;
        out.push_str(&formatted(&verb, value)?);
    }
    if next < values.len() && !indexed {
        return Err(plain_error("`format` has more values than verbs"));
    }
    out.push_str(rest);
    Ok(out)
}

/// Parses the verb after a `%`. Returns it with the text after the verb.
fn verb(text: &str) -> Result<(Verb, &str), CallError> {
    let mut verb = Verb::default();
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let small = |text: &str| match text.parse::<usize>() {
        Ok(size) if size <= 1024 => Ok(size),
        _ => Err(quoting_error(format!("`format`: {text} is not a width, a precision or an index from 0 to 1024"))),
    };
    let mut rest = text.trim_start_matches(['-', '+', ' ', '#', '0']);
    verb.flags = text[..text.len() - rest.len()].to_owned();
    let width = digits(rest);
    verb.width = if width > 0 { Some(small(&rest[..width])?) } else { None };
    rest = &rest[width..];
    if let Some(after) = rest.strip_prefix('.') {
        let precision = digits(after);
        verb.precision = Some(if precision > 0 { small(&after[..precision])? } else { 0 });
        rest = &after[precision..];
    }
    if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        verb.index = Some(
            Some(small(index)?)
                .filter(|index| *index > 0)
                .ok_or_else(|| plain_error("`format`: the index in `%[…]` counts from 1"))?,
        );
        rest = after;
    }
    let mut chars = rest.chars();
    verb.letter =
        chars.next().ok_or_else(|| plain_error("`format` ends within a verb; write `%%` for a percent sign"))?;
    Ok((verb, chars.as_str()))
}

fn formatted(verb: &Verb, value: &Value) -> Result<String, CallError> {
    let mismatch = |expected: &str| {
        let found = match value {
            Value::Number(number) => number_text(number),
            other => format!("a {}", other.type_name()),
        };
        quoting_error(format!("`%{}` of `format` needs {expected}, not {found}", verb.letter))
    };
    let number = || to_number(value).ok_or_else(|| mismatch("a number"));
    let whole = || integer(&number()?).ok_or_else(|| mismatch("a whole number"));
    let text = || to_text(value).ok_or_else(|| mismatch("a string"));
    let double = || exact_f64(&number()?).ok_or_else(|| mismatch("a number of at most 53 bits"));
    let signed = |text: String| match verb.flags.contains('+') && !text.starts_with('-') {
        true => format!("+{text}"),
        false if verb.flags.contains(' ') && !text.starts_with('-') => format!(" {text}"),
        false => text,
    };
    let in_base = |prefix: &str, digits: fn(u128) -> String| {
        let number = whole()?;
        let prefix = if verb.flags.contains('#') { prefix } else { "" };
        let digits = digits(number.unsigned_abs());
        let zeros = "0".repeat(verb.precision.unwrap_or(0).saturating_sub(digits.len()));
        let sign = if number < 0 { "-" } else { "" };
        Ok::<_, CallError>(signed(format!("{sign}{prefix}{zeros}{digits}")))
    };
    let body = match verb.letter {
        's' => text()?.chars().take(verb.precision.unwrap_or(usize::MAX)).collect(),
        'q' => serde_json::Value::String(text()?).to_string(),
        'd' => in_base("", |number| number.to_string())?,
        'b' => in_base("0b", |number| format!("{number:b}"))?,
        'o' => in_base("0", |number| format!("{number:o}"))?,
        'x' | 'X' => {
            let hex = match value {
                Value::String(text) if to_number(value).is_none() => {
                    text.bytes().map(|byte| format!("{byte:02x}")).collect()
                }
                _ => in_base("0x", |number| format!("{number:x}"))?,
            };
            if verb.letter == 'X' { hex.to_uppercase() } else { hex }
        }
        'f' | 'F' => signed(fixed(&number()?, verb.precision.unwrap_or(6))),
        'e' | 'E' => signed(exponential(double()?, verb.precision.unwrap_or(6), verb.letter)),
        'g' | 'G' => signed(number_text(&number()?)),
        't' => to_bool(value).ok_or_else(|| mismatch("a bool"))?.to_string(),
        'v' => match to_text(value) {
            Some(text) => text,
            None => to_json_text(value)?,
        },
        other => return Err(quoting_error(format!("`format` has no verb `%{other}`"))),
    };
    Ok(padded(verb, body))
}

/// Formats a number with this number of decimal places.
fn fixed(number: &Number, precision: usize) -> String {
    match integer(number) {
        Some(whole) if precision == 0 => whole.to_string(),
        Some(whole) => format!("{whole}.{}", "0".repeat(precision)),
        None => format!("{:.precision$}", number.as_f64().unwrap_or_default()),
    }
}

/// Formats a number as C does: `1.500000e+06`.
fn exponential(number: f64, precision: usize, letter: char) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}{letter}{sign}{digits:0>2}")
}

fn padded(verb: &Verb, body: String) -> String {
    let missing = verb.width.unwrap_or(0).saturating_sub(body.chars().count());
    if verb.flags.contains('-') {
        return body + &" ".repeat(missing);
    }
    if verb.flags.contains('0') && verb.letter != 's' {
        let (sign, digits) = match body.strip_prefix(['-', '+']) {
            Some(digits) => body.split_at(body.len() - digits.len()),
            None => ("", body.as_str()),
        };
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &body
}

//! YAML in the style of Kubernetes manifests.

use super::{CallError, plain_error, quoting_error};
use crate::model::number::number_text;
use crate::model::yaml::is_text;
use crate::model::{Value, yaml_document};

/// Parses a YAML text.
pub(super) fn decode(text: &str) -> Result<Value, CallError> {
    yaml_document(text).map_err(|error| quoting_error(format!("this YAML cannot be used: {error}")))
}

/// Returns the value as YAML in block style.
pub(super) fn encode(value: &Value) -> Result<String, CallError> {
    let mut out = String::new();
    block(value, 0, &mut out)?;
    Ok(out)
}

/// Writes a value at `indent`. The indentation of its first line is already written.
fn block(value: &Value, indent: usize, out: &mut String) -> Result<(), CallError> {
    match value {
        Value::Map(map) if !map.is_empty() => {
            for (i, (key, member)) in map.iter().enumerate() {
                if i > 0 {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str(&scalar_text(key));
                out.push(':');
                match member {
                    Value::Map(inner) if !inner.is_empty() => {
                        newline(indent + 2, out);
                        block(member, indent + 2, out)?;
                    }
                    // The items of a list have the indentation of its key, as in kubectl.
                    Value::List(items) if !items.is_empty() => {
                        newline(indent, out);
                        block(member, indent, out)?;
                    }
                    _ => {
                        out.push(' ');
                        block(member, indent + 2, out)?;
                    }
                }
            }
            Ok(())
        }
        Value::List(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str("- ");
                block(item, indent + 2, out)?;
            }
            Ok(())
        }
        scalar => {
            out.push_str(&scalar_of(scalar, indent)?);
            out.push('\n');
            Ok(())
        }
    }
}

fn newline(indent: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&" ".repeat(indent));
}

fn scalar_of(value: &Value, indent: usize) -> Result<String, CallError> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number_text(number),
        Value::String(text) => literal_text(text, indent).unwrap_or_else(|| scalar_text(text)),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
        Value::Unknown | Value::Retained | Value::Sensitive(_) => {
            return Err(plain_error("this value cannot be encoded"));
        }
    })
}

/// Returns a multi-line text as a literal block, if it can be one.
fn literal_text(text: &str, indent: usize) -> Option<String> {
    let printable = |c: char| {
        c == '\n'
            || c == '\t'
            || (!c.is_control() && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}' && c != '\u{85}')
    };
    let body = text.trim_end_matches('\n');
    let lines_fit = body.lines().all(|line| !line.ends_with([' ', '\t']));
    if !body.contains('\n') || !text.chars().all(printable) || !lines_fit || body.starts_with([' ', '\t', '\n']) {
        return None;
    }
    let chomp = match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    };
    let pad = " ".repeat(indent.max(2));
    let lines: Vec<String> = text
        .strip_suffix('\n')
        .unwrap_or(text)
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{pad}{line}") })
        .collect();
    Some(format!("{chomp}\n{}", lines.join("\n")))
}

/// Returns a one-line text, quoted only if it would be read as another value.
fn scalar_text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 13] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", ".inf", ".nan", "<<"];
    let lower = text.to_ascii_lowercase();
    let looks_like_number = lower.trim_start_matches(['-', '+', '.']).starts_with(|c: char| c.is_ascii_digit())
        && (lower.replace('_', "").parse::<f64>().is_ok()
            || lower.chars().all(|c| {
                c.is_ascii_digit() || matches!(c, '_' | ':' | '.' | '-' | '+' | 'e' | 'x' | 'o' | 't' | 'z' | ' ')
            })
            || lower
                .trim_start_matches(['-', '+'])
                .strip_prefix("0x")
                .is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit())));
    // `--flag` is a plain string, `- x` and `---` are not.
    let body = if text.starts_with("---") { text } else { text.trim_start_matches('-') };
    let starts_like_text = body.starts_with(|c: char| {
        c.is_alphanumeric() || (body == text && matches!(c, '/' | '_' | '.' | '(' | '$' | '+' | ';' | '<' | '^'))
    });
    starts_like_text
        && !WORDS.contains(&lower.as_str())
        && !WORDS.contains(&lower.trim_start_matches(['-', '+']))
        && !looks_like_number
        && is_text(text)
        && !text.ends_with([' ', ':', '\t'])
        && !text.contains(": ")
        && !text.contains(" #")
        && text.chars().all(|c| !c.is_control() && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}')
}

/// Quotes a text with single quotes, or with double quotes and JSON escapes if necessary.
fn quoted(text: &str) -> String {
    let simple = text.chars().all(|c| !c.is_control() && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}');
    if simple && !text.contains('\'') {
        return format!("'{text}'");
    }
    let json = serde_json::Value::String(text.to_owned()).to_string();
    let escaped = json.chars().map(|c| match c {
        '\u{7f}'..='\u{9f}' => format!("\\x{:02x}", u32::from(c)),
        '\u{2028}' | '\u{2029}' | '\u{feff}' => format!("\\u{:04x}", u32::from(c)),
        other => other.to_string(),
    });
    escaped.collect()
}

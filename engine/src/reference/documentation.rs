//! The reference documentation, generated from the schemas and the table of functions.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::expression::{Expr, Family, Files, Function, MISSING, Reference, Scope, Unresolved, functions};
use crate::model::{Attribute, Kind, Schema, Span, Value};

/// Returns the reference of a resource type, a data source or the configuration of a provider in Markdown.
pub fn reference(title: &str, schema: &Schema) -> String {
    let mut out = format!("# {title}\n\n{}\n", schema.doc.trim());
    let (written, computed): (Vec<&Attribute>, Vec<&Attribute>) =
        schema.attributes.iter().partition(|attribute| attribute.optional);
    let (required, optional): (Vec<&Attribute>, Vec<&Attribute>) =
        written.into_iter().partition(|attribute| attribute.required);
    for (title, attributes) in [("Required", required), ("Optional", optional), ("Computed", computed)] {
        if !attributes.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(out, "\n## {title}\n\n");
            list(&attributes, 0, &mut out);
        }
    }
    out
}

/// Returns the reference of one attribute in Markdown. `path` has the names of the attributes that contain it, and its own.
///
/// # Errors
/// If the attribute does not exist, returns the paths of the attributes beside it.
pub fn attribute_reference(title: &str, schema: &Schema, path: &[&str]) -> Result<String, Vec<String>> {
    let mut out = format!("# {title}");
    let mut attributes = schema.attributes.as_slice();
    let mut text = String::new();
    for name in path {
        let beside = || attributes.iter().map(|attribute| format!("{}.{}", &out["# ".len()..], attribute.name));
        let attribute =
            attributes.iter().find(|attribute| attribute.name == *name).ok_or_else(|| beside().collect::<Vec<_>>())?;
        text = format!("{}: {}\n", traits(attribute, 1), attribute.doc.trim());
        attributes = members(&attribute.kind).unwrap_or_default();
        let _ = write!(out, ".{name}");
    }
    let _ = write!(out, "\n\n{text}");
    if !attributes.is_empty() {
        out.push('\n');
        list(&attributes.iter().collect::<Vec<_>>(), 0, &mut out);
    }
    Ok(out)
}

/// Returns the reference of one function in Markdown, or the reason why this function of Terraform does not exist.
pub fn function_reference(name: &str) -> Option<String> {
    let Some(function) = functions().iter().find(|function| function.name == name) else {
        let (_, reason) = MISSING.iter().find(|(missing, _)| *missing == name)?;
        return Some(format!("# {name}\n\nThis function of Terraform does not exist: {reason}.\n"));
    };
    let result = example_result(function).map(|value| format!("    = {value:?}\n")).unwrap_or_default();
    let (signature, doc, example) = (function.signature(), function.doc, function.example());
    Some(format!("# {signature}\n\n{doc}\n\n## Example\n\n    {example}\n{result}"))
}

/// Returns the value of the example of a function. Returns `None` if it reads files, which do not exist.
fn example_result(function: &Function) -> Option<Value> {
    if reads_files(function) {
        return None;
    }
    let text = function.example();
    let expr = Expr::expression(text, Span { file: 0, start: 0, end: text.len() }).ok()?;
    expr.evaluate(&NoReferences::default()).ok()
}

/// Whether the example of the function reads a file.
fn reads_files(function: &Function) -> bool {
    function.family == Family::Filesystem || function.example().contains("file")
}

/// The scope of an expression without references.
#[derive(Default)]
struct NoReferences(Files);

impl Scope for NoReferences {
    fn resolve(&self, _: &Reference) -> Result<Arc<Value>, Unresolved> {
        Err(Unresolved::new("an example has no references"))
    }

    fn files(&self) -> &Files {
        &self.0
    }
}

/// Returns the reference of all functions in Markdown.
pub fn functions_reference() -> String {
    let mut out = String::from(
        "# Functions\n\nThe functions that an expression `${…}` can call. `name?` is an optional argument, `name...` is repeatable.\n\n\
         Whole numbers are exact from -9223372036854775808 to 18446744073709551615. Other numbers are 64-bit floats, calculated in decimal: `0.1 + 0.2` is 0.3. \
         A whole number that cannot be represented exactly is an error, not rounded.\n",
    );
    for family in Family::ALL {
        let _ = write!(out, "\n## {}\n\n| function | result |\n|---|---|\n", family.title());
        for function in functions().iter().filter(|function| function.family == family) {
            let _ = writeln!(out, "| `{}` | {} |", function.signature(), function.doc.replace('|', "\\|"));
        }
    }
    out.push_str("\n## Terraform functions without an equivalent\n\n| function | instead |\n|---|---|\n");
    for (name, reason) in MISSING {
        let _ = writeln!(out, "| `{name}` | {reason} |");
    }
    out
}

fn list(attributes: &[&Attribute], depth: usize, out: &mut String) {
    for attribute in attributes {
        let indent = "  ".repeat(depth);
        let _ = writeln!(
            out,
            "{indent}- `{}` ({}): {}",
            attribute.name,
            traits(attribute, depth),
            attribute.doc.trim().replace('\n', &format!("\n{indent}  "))
        );
        if let Some(inner) = members(&attribute.kind) {
            list(&inner.iter().collect::<Vec<_>>(), depth + 1, out);
        }
    }
}

/// Returns the attributes of an object, or of the objects in a list or map.
fn members(kind: &Kind) -> Option<&[Attribute]> {
    match kind {
        Kind::Object(attributes) => Some(attributes),
        Kind::List(inner) | Kind::Map(inner) => members(inner),
        _ => None,
    }
}

/// Returns the type and the properties of an attribute.
fn traits(attribute: &Attribute, depth: usize) -> String {
    let mut traits = vec![attribute.kind.describe()];
    if depth > 0 && attribute.required {
        traits.push("required".to_owned());
    }
    if let Some(default) = &attribute.default {
        traits.push(format!("default `{}`", default_text(default)));
    }
    if attribute.computed && attribute.optional {
        traits.push("computed if not set".to_owned());
    }
    if attribute.sensitive {
        traits.push("sensitive".to_owned());
    }
    if attribute.forces_replacement {
        traits.push("a change forces a replacement".to_owned());
    }
    traits.join(", ")
}

fn default_text(value: &Value) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Schema {
        let attributes = [
            Attribute::required("path", Kind::String, "Where it is.").replaces(),
            Attribute::optional("mode", Kind::Mode, "Its permissions.").or("0644"),
            Attribute::optional("content", Kind::String, "What is in it.").secret(),
            Attribute::optional("owner", Kind::String, "Who owns it.").or_computed(),
            Attribute::optional(
                "lines",
                Kind::list(Kind::Object(vec![Attribute::required("text", Kind::String, "The text.")])),
                "Its lines.",
            ),
            Attribute::computed("size", Kind::Integer, "How many bytes it has."),
        ];
        Schema::new("A file on a node.", attributes)
    }

    #[test]
    fn a_type_is_documented() {
        insta::assert_snapshot!(reference("test_file", &file()));
    }

    #[test]
    fn an_attribute_is_documented_with_those_in_it() {
        let lines = attribute_reference("test_file", &file(), &["lines"]).unwrap();
        assert_eq!(lines, "# test_file.lines\n\na list of tables: Its lines.\n\n- `text` (a string): The text.\n");
        let text = attribute_reference("test_file", &file(), &["lines", "text"]).unwrap();
        assert_eq!(text, "# test_file.lines.text\n\na string, required: The text.\n");
        let beside = attribute_reference("test_file", &file(), &["lines", "txt"]).unwrap_err();
        assert_eq!(beside, ["test_file.lines.text"]);
    }

    #[test]
    fn every_function_has_an_example_with_a_result() {
        let without: Vec<_> =
            functions().iter().filter(|function| !function.example().contains(function.name)).collect();
        assert!(without.is_empty(), "{without:?}");
        for function in functions() {
            assert!(example_result(function).is_some() != reads_files(function), "{}", function.example());
        }
        insta::assert_snapshot!(function_reference("join").unwrap());
        assert!(function_reference("timestamp").unwrap().contains("use `plan.timestamp` in a policy"));
        assert_eq!(function_reference("none"), None);
    }

    #[test]
    fn functions_are_documented() {
        let text = functions_reference();
        assert!(
            text.contains("| `join(separator, lists...)` | The strings of the lists, joined with the separator. |")
        );
        assert!(functions().iter().all(|function| text.contains(&format!("`{}(", function.name))));
    }
}

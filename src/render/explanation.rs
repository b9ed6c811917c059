//! Explanations of types, functions and addresses for the terminal.

use moorfast_engine::manifest::{Environment, Manifest, ModuleCall, Resource};
use moorfast_engine::model::{Address, Schema, Span};

use super::text::{Line, Style, Text, styled};

/// How many instances are listed by name.
const MAX_INSTANCES: usize = 20;

/// The instances of a resource.
pub enum Instances {
    /// Their addresses.
    Known(Vec<Address>),
    /// The reason why they are not known.
    Unknown(String),
}

/// Returns a page of the reference documentation.
pub fn markdown(page: &str) -> Text {
    page.lines().map(line).collect()
}

fn line(line: &str) -> Line {
    match line.trim_start_matches('#') {
        heading if heading.len() < line.len() => styled(Style::Bold, heading.trim()),
        _ => Line::from(without_target(line)),
    }
}

/// Returns a line of a list without the target of the link at its start. On a terminal, `explain` follows the link.
fn without_target(line: &str) -> String {
    let link = line.strip_prefix("- [").and_then(|rest| rest.split_once("]("));
    match link.and_then(|(text, rest)| Some((text, rest.split_once(')')?.1))) {
        Some((text, rest)) => format!("- {text}{rest}"),
        None => line.to_owned(),
    }
}

/// Returns what the manifest says at the address of a resource or an instance. `resource_type` is the type with the name under which it is explained.
pub fn resource(
    manifest: &Manifest,
    address: &Address,
    block: &Resource,
    instances: &Instances,
    resource_type: Option<&(String, Schema)>,
) -> Text {
    let mut lines = vec![styled(Style::Bold, address), Line::default()];
    if let Some((name, schema)) = resource_type {
        let summary = schema.doc.trim().split(". ").next().unwrap_or_default().trim_end_matches('.');
        lines.push(Line::from(format!("{summary}. `moorfast explain {name}` describes the attributes.")));
        lines.push(Line::default());
    }
    lines.extend(written(manifest, block.span));
    lines.extend(listed(instances));
    lines.into()
}

/// Returns the call of a module, the variables of the module, and its instances.
pub fn module(manifest: &Manifest, name: &str, call: &ModuleCall, instances: &Instances) -> Text {
    let mut lines = vec![styled(Style::Bold, name), Line::default()];
    lines.extend(written(manifest, call.span));
    let variables = &call.manifest.variables;
    if !variables.is_empty() {
        lines.push(styled(Style::Bold, "Inputs"));
    }
    for (variable, declared) in variables {
        let required = if declared.default.is_none() { " (required)" } else { "" };
        let description = declared.description.iter().map(|text| format!(": {text}"));
        lines.push(Line::from(format!("  {variable}{required}{}", description.collect::<String>())));
    }
    if !variables.is_empty() {
        lines.push(Line::default());
    }
    lines.extend(listed(instances));
    lines.into()
}

/// Returns what the manifest says about an environment.
pub fn environment(manifest: &Manifest, name: &str, environment: &Environment) -> Text {
    let mut lines = vec![styled(Style::Bold, name), Line::default()];
    lines.push(Line::from(format!(
        "An environment. `--env {name}` chooses it; `moorfast env list` shows where its state is."
    )));
    lines.push(Line::default());
    lines.extend(written(manifest, environment.span));
    lines.into()
}

/// Returns the place and the text of the block at `span`.
fn written(manifest: &Manifest, span: Span) -> Vec<Line> {
    let Some((file, line, _)) = manifest.sources.locate(span) else { return Vec::new() };
    let path = file.path.strip_prefix(".").unwrap_or(&file.path);
    let mut lines = vec![styled(Style::Bold, format!("{}:{line}", path.display()))];
    lines.extend(block_text(&file.text, line).map(|text| Line::from("  ") + text));
    lines.push(Line::default());
    lines
}

/// Returns the list of instances.
fn listed(instances: &Instances) -> Vec<Line> {
    let mut lines = Vec::new();
    match instances {
        Instances::Unknown(reason) => lines.push(Line::from(format!("The instances are not known: {reason}"))),
        Instances::Known(found) if found.is_empty() => lines.push(Line::from("No instances.")),
        Instances::Known(found) => {
            let plural = if found.len() == 1 { "" } else { "s" };
            lines.push(styled(Style::Bold, format!("{} instance{plural}", found.len())));
            lines.extend(found.iter().take(MAX_INSTANCES).map(|instance| Line::from(format!("  {instance}"))));
            if found.len() > MAX_INSTANCES {
                lines.push(styled(Style::Dim, format!("  and {} more", found.len() - MAX_INSTANCES)));
            }
        }
    }
    lines
}

/// Returns the lines of a block: from its header to the next one, without empty lines and comments at the end.
fn block_text(text: &str, header: usize) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = text.lines().skip(header.saturating_sub(1)).collect();
    let next = lines.iter().skip(1).position(|line| line.starts_with('[')).map_or(lines.len(), |at| at + 1);
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let end = lines[..next].iter().rposition(is_content).map_or(0, |last| last + 1);
    lines.into_iter().take(end)
}

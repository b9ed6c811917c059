//! Explanations of types, functions and addresses for the terminal.

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Address, Schema};

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
        _ => Line::from(line),
    }
}

/// Returns what the manifest says at an address. `resource_type` is the type with the name under which it is explained.
pub fn address(
    manifest: &Manifest,
    address: &Address,
    instances: &Instances,
    resource_type: Option<&(String, Schema)>,
) -> Text {
    let mut lines = vec![styled(Style::Bold, address), Line::default()];
    let resource = &address.resource;
    if let Some((name, schema)) = resource_type {
        let summary = schema.doc.trim().split(". ").next().unwrap_or_default().trim_end_matches('.');
        lines.push(Line::from(format!("{summary}. `moorfast explain {name}` describes the attributes.")));
        lines.push(Line::default());
    }
    if let Some(block) = manifest.resources.get(resource)
        && let Some((file, line, _)) = manifest.sources.locate(block.span)
    {
        let path = file.path.strip_prefix(".").unwrap_or(&file.path);
        lines.push(styled(Style::Bold, format!("{}:{line}", path.display())));
        lines.extend(block_text(&file.text, line).map(|text| Line::from("  ") + text));
        lines.push(Line::default());
    }
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
    lines.into()
}

/// Returns the lines of a block: from its header to the next one, without empty lines and comments at the end.
fn block_text(text: &str, header: usize) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = text.lines().skip(header.saturating_sub(1)).collect();
    let next = lines.iter().skip(1).position(|line| line.starts_with('[')).map_or(lines.len(), |at| at + 1);
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let end = lines[..next].iter().rposition(is_content).map_or(0, |last| last + 1);
    lines.into_iter().take(end)
}

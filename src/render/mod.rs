//! Rendering of plans, errors, progress and reports as text, JSON, Markdown and HTML.

pub mod access;
mod block;
mod checks;
mod derived_attributes;
mod escaped;
pub mod explanation;
mod fold;
mod instance_name;
mod invisible;
mod layout;
mod leaving;
mod machines;
mod policy;
mod rollout;
mod row;
mod row_lines;
mod section;
pub mod site;
mod structure;
mod text_diff;
mod text_options;
mod value;

pub mod diagnostic;
pub mod drift;
pub mod drift_history;
pub mod failure;
pub mod graph;
pub mod html;
pub mod json;
pub mod markdown;
pub mod metrics;
pub mod nodes;
pub mod picture;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod terminal;
pub mod text;
pub mod unsuccessful;
pub mod webhook;
pub mod wording;

#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod tests;

/// Returns the first digits of the lineage, which identify the state.
fn state_name(plan: &moorfast_engine::plan::Plan) -> String {
    plan.lineage.as_str().chars().take(8).collect()
}

pub use derived_attributes::DerivedAttributes;
pub use invisible::{escape_json, escape_text};
pub use text_diff::text_diff;
pub use text_options::TextOptions;
pub use value::{inline, printable};

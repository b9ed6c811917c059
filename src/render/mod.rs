//! What people read: plans, errors, progress and reports as text, and the same as JSON.

mod block;
mod escape;
mod fold;
mod hidden;
mod layout;
mod machines;
mod own_name;
mod policy;
mod restated;
mod rollout;
mod row;
mod spans;
mod structure;
mod text_diff;
mod value;
mod wording;

pub mod diagnostic;
pub mod drift;
pub mod drift_history;
pub mod failure;
pub mod graph;
pub mod html;
pub mod json;
pub mod markdown;
pub mod metrics;
pub mod picture;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod style;
pub mod webhook;

#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod tests;

/// The first digits of the lineage, which tell one state from another.
fn state_name(plan: &moorfast_engine::plan::Plan) -> String {
    plan.lineage.as_str().chars().take(8).collect()
}

pub use hidden::{shown as shown_text, shown_json};
pub use row::Room;
pub use text_diff::text_diff;
pub use value::{inline, printable};

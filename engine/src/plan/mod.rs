//! Plans: what would be done, and why.

mod consequence;
mod data;
mod decide;
mod diff;
mod drift;
mod ignore;
mod leftovers;
mod machines;
mod model;
mod objects;
mod orphans;
mod planner;
mod propose;
mod provisional;
mod reading;
mod replacements;
mod requests;
mod rollout;
mod triggers;

pub use consequence::Consequence;
pub(crate) use diff::value_at;
pub use diff::{Difference, Step, differences, is_mark, parse_path, path_text};
pub(crate) use machines::Machines;
pub use model::{
    Action, Change, CheckResult, CheckStatus, Drift, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, Reason,
    Selector, Summary,
};
pub use objects::{Object, ObjectChange};
pub(crate) use objects::{Owners, same_object};
pub(crate) use planner::{Draft, Item, Planner, mark_sensitive};
pub(crate) use reading::{observed_digest, read, taken_over};
pub use rollout::{PlannedRollout, RolledNode};
pub(crate) use rollout::{arrange, rollouts};

//! Plans: what would be done, and why.

mod diff;
mod model;
mod planner;

pub use diff::{Difference, Step, differences, is_mark, path_text};
pub use model::{
    Action, Change, CheckResult, CheckStatus, Drift, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, Reason,
    Summary,
};
pub(crate) use planner::{Draft, Item, Planner, ignoring, mark_sensitive, observed_digest};

//! Plans: what would be done, and why.

mod diff;
mod model;

pub use diff::{Difference, Step, differences, is_mark};
pub use model::{
    Action, Change, CheckResult, CheckStatus, Drift, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, Reason,
    Summary,
};

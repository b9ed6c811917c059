//! Plans: the changes that an apply would make, with the reasons.

mod data;
mod decide;
mod diff;
mod drift;
mod ignore;
mod machines;
mod model;
mod objects;
pub(crate) mod order;
mod orphans;
mod planner;
mod policy_result;
mod propose;
mod provisional;
mod reading;
mod replacements;
mod requests;
mod rollout;
pub(crate) mod sequence;
mod superseded;
mod triggers;

pub(crate) use diff::value_at;
pub use diff::{Difference, PathSegment, differences, parse_path, path_text};
pub(crate) use machines::Machines;
pub use model::{Change, Drift, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, Reason, Selector, Summary};
pub(crate) use planner::{Draft, Item, Planner};
pub use policy_result::PolicyResult;
pub(crate) use reading::{merged_attributes, observed_digest, read};
pub use rollout::{PlannedRollout, RolledNode};
pub(crate) use rollout::{arrange, rollouts};

//! Plans: the changes that an apply would make, with the reasons.
//!
//! Planning is a pipeline. Each stage knows the earlier ones only by their results, and only `calls` does I/O.
//!
//! | stage | module | from | to |
//! |---|---|---|---|
//! | 1 | `prior` | the state | `Prior`: the records by their address in the manifest |
//! | 2 | `selected` | `--target`, `--exclude` | `Selected`: the instances and records to plan |
//! | 3 | `requests`, `calls` | the records and the manifest | `Readings`: the observed objects |
//! | 4 | `machines`, `calls` | the machines that answer | `Machines`; the readings without those of other machines |
//! | 5 | `data`, `candidates`, `calls` | the readings and the decisions of earlier waves | the values of data sources, the proposals of the providers |
//! | 6 | `decide`, `provisional` | a proposal | `Decision`: a change with its reasons |
//! | 7 | `orphans` | the records that no instance has | decisions to remove them |
//! | 8 | `replacements` | all decisions | the order of replacements in the `Draft` |
//! | 9 | `side_effects`, `calls` | the removals in the `Draft` | their consequences for other objects |
//!
//! `planner` runs the stages: 5 and 6 once for each wave of the graph. A refresh has only the stages 1 to 4 and `refresh`.

mod action;
mod batches;
mod calls;
mod candidates;
mod change;
mod data;
mod decide;
mod diff;
mod draft;
mod drift;
mod ignore;
mod import;
mod inputs;
mod item;
mod machines;
mod model;
mod objects;
mod observed;
pub(crate) mod order;
mod orphans;
mod planned_rollout;
mod planner;
mod policy_result;
mod prior;
mod provisional;
mod readings;
mod refresh;
mod replacements;
mod requests;
mod rollout;
#[cfg(test)]
mod samples;
mod selected;
pub(crate) mod sequence;
mod side_effects;
mod superseded;
mod triggers;

pub(crate) use batches::Batches;
pub(crate) use calls::{read, read_data};
pub(crate) use data::result_digest;
pub(crate) use diff::value_at;
pub use diff::{Difference, PathSegment, differences, parse_path, path_text};
pub(crate) use draft::Draft;
pub(crate) use inputs::Inputs;
pub(crate) use item::Item;
pub(crate) use machines::Machines;
pub use model::{Change, Drift, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, Reason, Selector, Summary};
pub(crate) use observed::{merged_attributes, observed_digest};
pub use planned_rollout::{NodeDrain, PlannedRollout, RolledNode};
pub(crate) use planner::Planner;
pub use policy_result::PolicyResult;
pub(crate) use rollout::{arrange, forgotten_drains, rollouts};
pub(crate) use triggers::watched_digest;

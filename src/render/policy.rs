//! The policies that a plan violates.

use moorfast_engine::plan::{Plan, PolicyResult};

use super::style::{BOLD, DESTROY, DIM, WARNING, paint};
use super::value::printable;

/// Returns the violated policies with their messages, those that deny the plan first.
pub fn violated(plan: &Plan) -> impl Iterator<Item = (&PolicyResult, &String)> {
    let all = || plan.policies.iter().filter_map(|policy| Some((policy, policy.violation.as_ref()?)));
    all().filter(|(policy, _)| policy.denies()).chain(all().filter(|(policy, _)| !policy.denies()))
}

/// Returns the section of the violated policies.
pub fn policies(plan: &Plan) -> Vec<String> {
    let heading =
        plan.is_denied().then(|| paint(DESTROY.bold(), "This plan is denied by policies and cannot be applied:"));
    let line = |(policy, message): (&PolicyResult, &String)| {
        let mark = if policy.denies() { format!("  {}", paint(DESTROY, "!")) } else { paint(WARNING, "warning:") };
        let place = paint(DIM, format!("({})", policy.place));
        format!("{mark} {}: {} {place}", paint(BOLD, &policy.name), printable(message))
    };
    heading.into_iter().chain(violated(plan).map(line)).collect()
}

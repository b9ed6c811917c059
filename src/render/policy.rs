//! What the policies say of a plan.

use moorfast_engine::plan::{Plan, PolicyResult};

use super::style::{BOLD, DESTROY, DIM, WARNING, paint};
use super::value::printable;

/// The policies that the plan violates with what they say, those that deny it first.
pub fn violated(plan: &Plan) -> impl Iterator<Item = (&PolicyResult, &String)> {
    let all = || plan.policies.iter().filter_map(|policy| Some((policy, policy.violation.as_ref()?)));
    all().filter(|(policy, _)| policy.denies()).chain(all().filter(|(policy, _)| !policy.denies()))
}

/// The section of the policies that the plan violates.
pub fn policies(plan: &Plan) -> Vec<String> {
    let heading = plan.is_denied().then(|| paint(DESTROY.bold(), "Policies deny this plan; it is not applied:"));
    let line = |(policy, message): (&PolicyResult, &String)| {
        let mark = if policy.denies() { format!("  {}", paint(DESTROY, "!")) } else { paint(WARNING, "warning:") };
        let place = paint(DIM, format!("({})", policy.place));
        format!("{mark} {}: {} {place}", paint(BOLD, &policy.name), printable(message))
    };
    heading.into_iter().chain(violated(plan).map(line)).collect()
}

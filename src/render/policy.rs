//! The policies that a plan violates.

use moorfast_engine::plan::{Plan, PolicyResult};

use super::text::{Style, Text, styled};
use super::wording::warning;

/// Returns the violated policies with their messages, those that deny the plan first.
pub fn violated(plan: &Plan) -> impl Iterator<Item = (&PolicyResult, &String)> {
    let all = || plan.policies.iter().filter_map(|policy| Some((policy, policy.violation.as_ref()?)));
    all().filter(|(policy, _)| policy.denies()).chain(all().filter(|(policy, _)| !policy.denies()))
}

/// Returns the section of the violated policies.
pub fn policies(plan: &Plan) -> Text {
    let heading =
        plan.is_denied().then(|| styled(Style::Danger, "This plan is denied by policies and cannot be applied:"));
    let line = |(policy, message): (&PolicyResult, &String)| {
        let place = styled(Style::Dim, format!("({})", policy.place));
        let violation = styled(Style::Bold, &policy.name) + format!(": {message} ") + place;
        match policy.denies() {
            true => (styled(Style::Removed, "!") + " " + violation).indented(2),
            false => warning(violation),
        }
    };
    heading.into_iter().chain(violated(plan).map(line)).collect()
}

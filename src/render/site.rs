//! The site and the environment above a plan.

use moorfast_engine::plan::Plan;
use moorfast_engine::state::EnvironmentName;

use super::text::{Line, Style, Text, styled};

/// Returns the lines that name the site and the environment of a plan.
pub fn heading(plan: &Plan) -> Text {
    Text::from(Line::from("Site ") + styled(Style::Bold, &plan.site)) + environment(plan.environment.as_ref())
}

/// Returns the line that names the environment. Empty without one.
pub fn environment(name: Option<&EnvironmentName>) -> Text {
    name.map(|name| Text::from(Line::from("Environment ") + styled(Style::Bold, name))).unwrap_or_default()
}

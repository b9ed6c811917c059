//! The name of the environment above a plan.

use moorfast_engine::state::EnvironmentName;

use super::text::{Line, Style, Text, styled};

/// Returns the line that names the environment. Empty without one.
pub fn environment(name: Option<&EnvironmentName>) -> Text {
    name.map(|name| Text::from(Line::from("Environment ") + styled(Style::Bold, name))).unwrap_or_default()
}

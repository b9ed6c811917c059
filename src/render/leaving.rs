//! The nodes that leave, in a plan.

use moorfast_engine::model::{Departure, LeavingNode};
use moorfast_engine::plan::{Change, Plan};
use moorfast_engine::provider::Action;

use super::section::Section;
use super::text::Line;
use super::wording::counted;

/// Returns the section of the nodes that leave.
pub fn leaving(plan: &Plan) -> Section {
    let lines = plan.leaving.iter().map(|node| Line::from(headline(plan, node)).indented(2));
    Section { heading: "Nodes that leave", lines: lines.collect() }
}

/// Returns what happens to the objects of a node that leaves.
pub fn headline(plan: &Plan, LeavingNode { node, departure }: &LeavingNode) -> String {
    let of_node = || plan.changes.iter().filter(|change| change.node.as_ref() == Some(node));
    let is_on_machine = |change: &Change| change.target == node.0;
    let removed = |change: &Change| change.action == Action::Delete;
    let elsewhere = of_node().filter(|change| removed(change) && !is_on_machine(change)).count();
    let elsewhere = match elsewhere {
        0 => String::new(),
        count => format!(", and {} in clusters", counted(count, "object")),
    };
    let on_machine = of_node().filter(|change| is_on_machine(change)).count();
    match departure {
        Departure::Destroyed => {
            let destroyed = of_node().filter(|change| removed(change) && is_on_machine(change)).count();
            format!("{node}: destroys {} on its machine{elsewhere}", counted(destroyed, "object"))
        }
        Departure::Released => {
            let records = counted(of_node().count(), "object");
            format!("{node}: stays as it is; {records} only removed from the state")
        }
        Departure::Renamed => {
            let kept = counted(on_machine, "object");
            format!(
                "{node}: its machine is another node of the inventory now; {kept} on it only removed from the state{elsewhere}"
            )
        }
        Departure::Dead => {
            let lost = counted(on_machine, "object");
            let destroyed = if elsewhere.is_empty() { String::new() } else { format!("; destroys{}", &elsewhere[5..]) };
            format!("{node}: its machine does not exist any more; {lost} on it only removed from the state{destroyed}")
        }
    }
}

//! The law of nodes from data: they are the same as nodes that are written out.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use moorfast_engine::plan::PlanOptions;
use proptest::prelude::*;
use support::Bench;

/// The nodes with their roles.
type Nodes = BTreeMap<String, BTreeSet<String>>;

/// Resources with every kind of selection, and references between them.
const RESOURCES: &str = r#"
[resource.mem_file.base]
on    = "all"
key   = "base"
value = "${node.address} ${node.vars.number}"
[resource.mem_file.web]
on       = { role = "web", allow_empty = true }
for_each = ["a", "b"]
key      = "web-${each.key}"
value    = "${mem_file.base.id} ${length(nodes)}"
[resource.mem_badge.node]
on    = "all"
key   = "badge-${node.name}"
value = '${join(",", node.roles)}'
[rollout.all]
nodes = NAMES
"#;

fn literal(nodes: &Nodes) -> String {
    let node = |(i, (name, roles)): (usize, (&String, &BTreeSet<String>))| {
        format!("[nodes.{name}]\naddress = \"10.0.0.{i}\"\nroles = {roles:?}\nvars = {{ number = {i} }}\n")
            .replace(['{', '}'], "")
    };
    let text: String = nodes.iter().enumerate().map(node).collect();
    let text =
        text.replace("roles = ", "roles = [").replace("\nvars = ", "]\nvars = {").replace("\n[nodes", "}\n[nodes");
    format!("{}}}\n{}", text.trim_end(), RESOURCES.replace("NAMES", &format!("{:?}", nodes.keys().collect::<Vec<_>>())))
}

/// Returns the same nodes from a map, or from a list of maps.
fn generated(nodes: &Nodes, from_map: bool) -> String {
    let element = |(i, (name, roles)): (usize, (&String, &BTreeSet<String>))| {
        let roles: Vec<_> = roles.iter().collect();
        match from_map {
            true => format!("{name} = {{ number = {i}, roles = {roles:?} }}"),
            false => format!("{{ name = {name:?}, number = {i}, roles = {roles:?} }}"),
        }
    };
    let elements = nodes.iter().enumerate().map(element).collect::<Vec<_>>().join(", ");
    let (for_each, name) = match from_map {
        true => (format!("{{ {elements} }}"), ""),
        false => (format!("[{elements}]"), "name = \"${each.value.name}\"\n"),
    };
    let attributes = "address = \"10.0.0.${each.value.number}\"\nroles = \"${each.value.roles}\"\nvars = { number = \"${each.value.number}\" }\n";
    format!("[nodes.group]\nfor_each = {for_each}\n{name}{attributes}{}", RESOURCES.replace("NAMES", "[\"group\"]"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn generated_nodes_are_the_same_as_literal_ones(
        nodes in proptest::collection::btree_map("n[0-9]{1,2}", proptest::collection::btree_set("web|db", 0..3), 1..6),
        from_map: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::default();
            bench.write(&literal(&nodes));
            let of_literal = bench.plan(&PlanOptions::default()).await.unwrap();
            bench.write(&generated(&nodes, from_map));
            let of_generated = bench.plan(&PlanOptions::default()).await.unwrap();
            assert_eq!(of_literal.changes, of_generated.changes);
            assert_eq!(of_literal.rollouts, of_generated.rollouts);
            // What one form applied, the other has nothing to change.
            bench.apply(&PlanOptions::default()).await;
            bench.assert_settled().await;
            bench.write(&literal(&nodes));
            bench.assert_settled().await;
        });
    }
}

//! The dependency graph for Graphviz and Mermaid.

use std::collections::BTreeMap;

use moorfast_engine::configuration::GraphView;

/// Returns the graph for Graphviz (`moorfast graph | dot -Tsvg`).
pub fn dot(graph: &GraphView) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph moorfast {\n  rankdir = \"RL\"\n  node [shape = \"box\"]\n".to_owned();
    for node in &graph.nodes {
        text.push_str(&format!("  {}\n", quote(node)));
    }
    for (from, to) in &graph.edges {
        text.push_str(&format!("  {} -> {}\n", quote(from), quote(to)));
    }
    text + "}\n"
}

/// Returns the graph for Mermaid, which GitHub renders in Markdown.
pub fn mermaid(graph: &GraphView) -> String {
    let ids: BTreeMap<&str, String> =
        graph.nodes.iter().enumerate().map(|(i, node)| (node.as_str(), format!("n{i}"))).collect();
    let mut text = "flowchart RL\n".to_owned();
    for node in &graph.nodes {
        text.push_str(&format!("  {}[\"{}\"]\n", ids[node.as_str()], node.replace('"', "#quot;")));
    }
    for (from, to) in &graph.edges {
        if let (Some(from), Some(to)) = (ids.get(from.as_str()), ids.get(to.as_str())) {
            text.push_str(&format!("  {from} --> {to}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> GraphView {
        let (a, b) = ("ssh_file.a[\"gpu01\"]".to_owned(), "var.region".to_owned());
        GraphView { nodes: vec![a.clone(), b.clone()], edges: vec![(a, b)] }
    }

    #[test]
    fn names_are_quoted() {
        insta::assert_snapshot!(dot(&graph()) + &mermaid(&graph()));
    }
}

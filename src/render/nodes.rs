//! The nodes of the inventory, as `node list` shows them.

use std::sync::Arc;

use moorfast_engine::manifest::Origin;
use moorfast_engine::model::{Node, Transport};
use serde_json::{Value as Json, json};

/// A node, its known host keys, and the block that defines it.
pub struct ListedNode {
    /// The node.
    pub node: Arc<Node>,
    /// The pinned or trusted host keys.
    pub known_keys: Vec<String>,
    /// The block, and the element of its `for_each`.
    pub origin: Option<Origin>,
    /// The file and the line of the block.
    pub place: Option<(String, usize)>,
}

impl ListedNode {
    /// Returns the definition as `nodes.worker["gpu01"] (main.toml:3)`.
    pub fn definition(&self) -> String {
        let Some(origin) = &self.origin else { return String::new() };
        match &self.place {
            Some((file, line)) => format!("{origin} ({}:{line})", file.trim_start_matches("./")),
            None => origin.to_string(),
        }
    }
}

/// Returns the output of `node list --json`.
pub fn nodes_json(nodes: &[ListedNode]) -> Json {
    let node = |ListedNode { node, known_keys, origin, place }: &ListedNode| {
        json!({
            "name": node.name,
            "address": node.address,
            "user": node.user,
            "port": node.port,
            "transport": match node.transport {
                Transport::Ssh => "ssh",
                Transport::Local => "local",
            },
            "roles": node.roles,
            "known_keys": known_keys,
            "definition": origin.as_ref().map(|origin| json!({
                "block": format!("nodes.{}", origin.block),
                "element": origin.element,
                "file": place.as_ref().map(|(file, _)| file),
                "line": place.as_ref().map(|(_, line)| line),
            })),
        })
    };
    json!({ "format_version": super::json::FORMAT_VERSION, "nodes": nodes.iter().map(node).collect::<Vec<_>>() })
}

//! Describing existing objects for a new manifest.

use std::collections::BTreeSet;

use futures::future::join_all;

use crate::configuration::expand::Expanded;
use crate::model::{Diagnostic, NodeName, Schema, error_codes};
use crate::provider::{Described, Existing, Provider, Target, TargetKind};
use crate::session::{Events, Failure, Interrupt, Session};
use crate::workspace::Workspace;

impl Workspace {
    /// Returns what a manifest would say about existing objects, for each target. Objects of nodes are read on `nodes`, or on all nodes if there are none.
    /// Changes nothing and needs no state.
    ///
    /// # Errors
    /// If the manifest is invalid, a type or a node does not exist, or a target cannot be read.
    pub async fn describe(
        &self,
        nodes: &[NodeName],
        wanted: &[Existing],
        interrupt: &Interrupt,
    ) -> Result<Vec<(Target, Vec<Described>)>, Failure> {
        let events = Events::default();
        self.read_static_data(&events, interrupt).await?;
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let (mut on_nodes, mut elsewhere) = (Vec::new(), Vec::new());
        for existing in wanted {
            let is_of_node = match existing {
                Existing::Object { resource_type, .. } => {
                    let known = expanded.catalog.resource_type(resource_type);
                    let known = known.ok_or_else(|| Failure::Manifest(vec![unknown_type(resource_type)]))?;
                    known.declaration().target_kind == TargetKind::Node
                }
                Existing::Under(_) => true,
                Existing::Kind { .. } => false,
            };
            if is_of_node { on_nodes.push(existing.clone()) } else { elsewhere.push(existing.clone()) }
        }
        let unknown: Vec<_> = nodes.iter().filter(|name| !expanded.nodes.contains_key(*name)).collect();
        if !unknown.is_empty() {
            let error = |name: &&NodeName| Diagnostic::error(format!("the node `{name}` is not in the inventory"));
            return Err(Failure::Manifest(unknown.iter().map(error).collect()));
        }
        let node_provider = expanded.catalog.node_provider();
        let mut calls = Vec::new();
        if let Some(alias) = node_provider.filter(|_| !on_nodes.is_empty()) {
            let chosen = expanded.nodes.values().filter(|node| nodes.is_empty() || nodes.contains(&node.name));
            calls.extend(chosen.map(|node| (alias.to_owned(), Target::Node(node.clone()), &on_nodes)));
        }
        if !elsewhere.is_empty() {
            let others = expanded.catalog.providers().filter(|provider| is_usable(&expanded, provider.as_ref()));
            let others = others.map(|provider| provider.name()).filter(|name| Some(*name) != node_provider);
            calls.extend(others.map(|name| (name.to_owned(), Target::Provider(name.to_owned()), &elsewhere)));
        }
        let aliases: BTreeSet<_> = calls.iter().map(|(alias, ..)| alias.clone()).collect();
        let session = Session::open(&expanded, aliases, &self.data_dir, &events, interrupt).await?;
        let session_ref = &session;
        let described = join_all(calls.into_iter().map(|(alias, target, wanted)| async move {
            let described = match session_ref.connection(&alias) {
                Some(connection) => connection.describe(&target, wanted).await,
                None => Ok(Vec::new()),
            };
            let described = described.map_err(|error| Failure::Provider(alias, Box::new(error)))?;
            Ok((target, described))
        }));
        let described = tokio::select! {
            described = described => described.into_iter().collect(),
            () = interrupt.stop.cancelled() => Err(Failure::Interrupted),
        };
        session.close().await;
        described
    }
}

/// Whether the manifest configures the provider, or it needs no configuration.
fn is_usable(expanded: &Expanded, provider: &dyn Provider) -> bool {
    let needs = |schema: Schema| schema.attributes.iter().any(|attribute| attribute.required);
    expanded.manifest.providers.contains_key(provider.name()) || !needs(provider.config_schema())
}

fn unknown_type(name: &str) -> Diagnostic {
    Diagnostic::error(format!("unknown resource type `{name}`"))
        .code(error_codes::UNKNOWN_TYPE)
        .help("`moorfast schema` lists all types")
}

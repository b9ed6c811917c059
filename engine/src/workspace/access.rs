//! Checking whether the targets of a workspace can be reached and used.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::static_values::StaticValues;
use crate::model::{NodeName, Transport};
use crate::provider::{Class, Finding, Need, ProviderError, ReadRequest, Target};
use crate::session::{Events, Failure, Interrupt, Session};
use crate::workspace::Workspace;

/// The findings about one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The node, or the cluster of a provider instance.
    pub target: Target,
    /// The findings, in the order of [`Need`].
    pub findings: Vec<Finding>,
}

/// A target to check, with the provider instance that reaches it.
struct Check {
    alias: String,
    target: Target,
    requests: Vec<ReadRequest>,
}

impl Workspace {
    /// Checks the access to these nodes, or to all nodes and clusters of the manifest. At most `parallelism` targets are checked at the same time.
    ///
    /// # Errors
    /// If the manifest or the configuration of a provider is invalid, or static data cannot be read.
    pub async fn check_access(
        &self,
        only: Option<&[NodeName]>,
        parallelism: usize,
        interrupt: &Interrupt,
    ) -> Result<Vec<Access>, Failure> {
        let events = Events::default();
        self.read_static_data(&events, interrupt).await?;
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let evaluated = self.evaluated().map_err(Failure::Manifest)?;
        let checks = checks(&expanded, &evaluated.static_values, expanded.catalog.node_provider(), only);
        let aliases: BTreeSet<_> = checks.iter().map(|check| check.alias.clone()).collect();
        let session = Session::open(&expanded, aliases, &self.data_dir, &events, interrupt).await?;
        let session_ref = &session;
        let calls = checks.into_iter().map(|Check { alias, target, requests }| async move {
            let findings = session_ref.connection(&alias)?.check_access(&target, &requests).await;
            (!findings.is_empty()).then_some(Access { target, findings })
        });
        let run = stream::iter(calls).buffered(parallelism.max(1)).filter_map(|found| async { found }).collect();
        let found = tokio::select! {
            found = run => Ok(found),
            () = interrupt.stop.cancelled() => Err(Failure::Interrupted),
        };
        session.close().await;
        let mut found: Vec<Access> = found?;
        report_shared_machine_ids(&mut found);
        Ok(found)
    }
}

/// Returns the targets to check: the nodes in the order of their names, then the clusters. A node without instances is checked through `node_provider`.
fn checks(
    expanded: &Expanded,
    static_values: &StaticValues,
    node_provider: Option<&str>,
    only: Option<&[NodeName]>,
) -> Vec<Check> {
    let request = |instance: &Instance| instance.read_request(static_values.get(&instance.address).cloned(), None);
    let mut nodes: BTreeMap<&NodeName, Check> = BTreeMap::new();
    if let Some(provider) = node_provider {
        for (name, node) in expanded.nodes.iter().filter(|(name, _)| only.is_none_or(|only| only.contains(name))) {
            let (alias, target) = (provider.to_owned(), Target::Node(node.clone()));
            nodes.insert(name, Check { alias, target, requests: Vec::new() });
        }
    }
    let mut clusters: BTreeMap<&str, Check> = BTreeMap::new();
    for instance in &expanded.instances {
        match &instance.target {
            Target::Node(node) => {
                if let Some(check) = nodes.get_mut(&node.name) {
                    check.alias.clone_from(&instance.provider);
                    check.requests.push(request(instance));
                }
            }
            Target::Provider(name) if only.is_none() => {
                let check = || Check {
                    alias: instance.provider.clone(),
                    target: instance.target.clone(),
                    requests: Vec::new(),
                };
                clusters.entry(name).or_insert_with(check).requests.push(request(instance));
            }
            Target::Provider(_) => {}
        }
    }
    nodes.into_values().chain(clusters.into_values()).collect()
}

/// Turns the findings about a machine-id that several nodes have into failures. Local nodes are the same machine on purpose.
fn report_shared_machine_ids(found: &mut [Access]) {
    let mut nodes: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
    for access in found.iter() {
        let Target::Node(node) = &access.target else { continue };
        if node.transport == Transport::Local {
            continue;
        }
        for finding in &access.findings {
            if let (Need::MachineId, Ok(id)) = (finding.need, &finding.result) {
                nodes.entry(id.clone()).or_default().push(node.name.clone());
            }
        }
    }
    for Access { target, findings } in found {
        let Target::Node(node) = target else { continue };
        for finding in findings.iter_mut().filter(|finding| finding.need == Need::MachineId) {
            let Ok(id) = &finding.result else { continue };
            let Some(same) = nodes.get(id).filter(|same| same.contains(&node.name)) else { continue };
            let others: Vec<_> = same.iter().filter(|name| **name != node.name).map(NodeName::to_string).collect();
            if !others.is_empty() {
                finding.result = Err(shared_machine_id(id, &others));
            }
        }
    }
}

fn shared_machine_id(id: &str, others: &[String]) -> ProviderError {
    let summary = format!("{id} is also the machine-id of {}", others.join(", "));
    ProviderError::new(Class::Conflict, summary).help(
        "if the machines are clones, run on one of them: rm /etc/machine-id && systemd-machine-id-setup; if it is one machine, keep one of the nodes",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Node;

    fn access(name: &str, transport: Transport, id: &str) -> Access {
        let node = Node { transport, ..Node::new(name) };
        Access { target: Target::Node(Arc::new(node)), findings: vec![Finding::met(Need::MachineId, id)] }
    }

    #[test]
    fn a_machine_id_of_several_nodes_is_reported_on_each_of_them() {
        let ssh = Transport::Ssh;
        let mut found = vec![
            access("a", ssh, "1"),
            access("b", ssh, "2"),
            access("c", ssh, "1"),
            access("l", Transport::Local, "2"),
            access("m", Transport::Local, "2"),
        ];
        report_shared_machine_ids(&mut found);
        let results: Vec<_> = found.iter().map(|access| access.findings[0].result.clone()).collect();
        let summaries: Vec<_> = results.iter().map(|result| result.as_ref().map_err(|e| e.summary.as_str())).collect();
        assert_eq!(summaries[0], Err("1 is also the machine-id of c"));
        assert_eq!(summaries[2], Err("1 is also the machine-id of a"));
        assert!(summaries[1].is_ok() && summaries[3].is_ok() && summaries[4].is_ok());
    }
}

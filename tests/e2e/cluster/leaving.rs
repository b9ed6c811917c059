//! A worker is taken out of the inventory.

use super::site::{CONTROL_PLANES, Site, left_behind};
use crate::support::snapshot::Snapshot;

impl Site {
    /// Reads the contents of the last worker.
    pub fn snapshot_of_last_worker(&self) -> Snapshot {
        Snapshot::of_node(&self.testbed, &self.testbed.facts.nodes.last().unwrap().name)
    }

    /// `bare` are the contents of the machine before the first apply.
    pub fn a_worker_leaves(&mut self, bare: &Snapshot) {
        let leaving = self.take_out_last_worker();
        let client = self.testbed.facts.nodes[CONTROL_PLANES].clone();
        assert!(self.machines_of_the_workload().contains(&leaving.name));
        let route = format!("ip route show 172.30.{}.0/24", self.testbed.facts.nodes.len() + 1);
        for node in self.testbed.node_names() {
            assert!(self.testbed.on(&node, &route).contains(&leaving.address), "{route} on {node}");
        }

        let plan = self.expect(0, &["plan", "--out", "leave.plan"]);
        plan.says("Nodes that leave:").says(&format!("{}: destroys", leaving.name));
        let apply = self.without_an_outage_of_the_api_servers(&client, || self.expect(0, &["apply", "leave.plan"]));
        eprintln!("{} left in {:.1?}: {}", leaving.name, apply.took, apply.line("Apply complete!"));

        // The others change only their lists of machines.
        let mut elsewhere = apply.operations_elsewhere(&leaving.name);
        elsewhere.sort();
        let lists = ["module.hosts.ssh_file_block.hosts", "module.network.ssh_systemd_unit.routes"];
        let names = self.testbed.node_names();
        let expected =
            lists.iter().flat_map(|list| names.iter().map(move |node| format!("{list}[\"{node}\"]: Modifying...")));
        assert_eq!(elsewhere, expected.collect::<Vec<_>>());
        for node in &names {
            assert_eq!(self.testbed.on(node, &route), "", "{route} on {node}");
            assert!(!self.testbed.on(node, "cat /etc/hosts").contains(&leaving.name));
        }
        self.nodes_are_ready();
        assert!(!self.machines_of_the_workload().contains(&leaving.name));
        let requests = self.kubectl(&["get", "csr", "-o", "jsonpath={.items[*].spec.username}"]);
        assert!(!requests.contains(&leaving.name), "{requests}");
        let remaining = left_behind(&Snapshot::of_node(&self.testbed, &leaving.name), bare);
        assert_eq!(remaining, Vec::<String>::new());
        self.is_in_sync();
    }
}

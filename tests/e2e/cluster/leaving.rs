//! Machines are taken out of the inventory.

use super::site::{Site, left_behind, pod_subnet};
use crate::support::snapshot::Snapshot;
use crate::support::testbed::Node;

impl Site {
    /// Reads the contents of all machines.
    pub fn snapshots(&self) -> Vec<(String, Snapshot)> {
        let names = self.testbed.node_names().into_iter();
        names.map(|name| (name.clone(), Snapshot::of_node(&self.testbed, &name))).collect()
    }

    /// `bare` are the contents of the machines before the first apply.
    pub fn a_worker_leaves(&mut self, bare: &[(String, Snapshot)]) {
        let leaving = self.take_out_last_worker();
        assert!(self.machines_of_the_workload().contains(&leaving.name));
        let mut elsewhere = self.leave(&leaving, bare);

        // The others change only their lists of machines.
        elsewhere.sort();
        let lists = ["module.hosts.ssh_file_block.hosts", "module.network.ssh_systemd_unit.routes"];
        let names = self.testbed.node_names();
        let expected =
            lists.iter().flat_map(|list| names.iter().map(move |node| format!("{list}[\"{node}\"]: Modifying...")));
        assert_eq!(elsewhere, expected.collect::<Vec<_>>());
        assert!(!self.machines_of_the_workload().contains(&leaving.name));
    }

    /// A member leaves etcd, and the other control planes forget it.
    pub fn a_control_plane_leaves(&mut self, bare: &[(String, Snapshot)]) {
        let leaving = self.take_out_last_control_plane();
        self.leave(&leaving, bare);
        let first = &self.control_planes()[0].name;
        let members = "ETCDCTL_API=3 /opt/k8s/bin/etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/cert/ca.pem \
            --cert /etc/etcd/cert/etcd.pem --key /etc/etcd/cert/etcd-key.pem member list";
        let members = self.testbed.on(first, members);
        assert!(members.lines().count() == 2 && !members.contains(&leaving.name), "{members}");
        for node in self.control_planes() {
            let unit = self.testbed.on(&node.name, "cat /etc/systemd/system/kube-apiserver.service");
            assert!(!unit.contains(&leaving.address), "{unit}");
        }
    }

    /// Applies the inventory without this machine, and returns the operations on the others.
    fn leave(&self, leaving: &Node, bare: &[(String, Snapshot)]) -> Vec<String> {
        let client = self.first_worker().clone();
        let route = format!("ip route show 172.30.{}.0/24", pod_subnet(leaving));
        let names = self.testbed.node_names();
        for node in &names {
            assert!(self.testbed.on(node, &route).contains(&leaving.address), "{route} on {node}");
        }
        let plan = self.expect(0, &["plan", "--out", "leave.plan"]);
        plan.says("Nodes that leave:").says(&format!("{}: destroys", leaving.name));
        let apply = self.without_an_outage_of_the_api_servers(&client, || self.expect(0, &["apply", "leave.plan"]));
        eprintln!("{} left in {:.1?}: {}", leaving.name, apply.took, apply.line("Apply complete!"));

        for node in &names {
            assert_eq!(self.testbed.on(node, &route), "", "{route} on {node}");
            assert!(!self.testbed.on(node, "cat /etc/hosts").contains(&leaving.name));
        }
        self.nodes_are_ready();
        let requests = self.kubectl(&["get", "csr", "-o", "jsonpath={.items[*].spec.username}"]);
        assert!(!requests.contains(&leaving.name), "{requests}");
        let (_, before) = bare.iter().find(|(name, _)| *name == leaving.name).unwrap();
        let remaining = left_behind(&Snapshot::of_node(&self.testbed, &leaving.name), before);
        assert_eq!(remaining, Vec::<String>::new());
        self.is_in_sync();
        apply.operations_elsewhere(&leaving.name)
    }
}

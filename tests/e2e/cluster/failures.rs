//! The cluster goes on without the leaders of the control plane and without one member of etcd.

use std::time::Duration;

use serde_json::Value as Json;

use super::site::{BUSY, Site};
use crate::support::{try_wait_for, wait_for};

/// A Lease expires after 15 seconds.
const FAIL_OVER: Duration = Duration::from_secs(60);

impl Site {
    pub fn leaders_and_a_member_of_etcd_stop(&self) {
        let programs = ["kube-controller-manager", "kube-scheduler"];
        let leaders = programs.map(|program| self.leader(program));
        let member = self.control_planes()[1].name.clone();
        for (program, leader) in programs.iter().zip(&leaders) {
            self.testbed.on(leader, &format!("systemctl stop {program}"));
        }
        self.testbed.on(&member, "systemctl stop etcd");
        for (program, leader) in programs.iter().zip(&leaders) {
            let next =
                wait_for("another leader", FAIL_OVER, || Some(self.leader(program)).filter(|next| next != leader));
            assert!(self.control_planes().iter().any(|node| node.name == next), "{next}");
        }
        // The new leaders work: another pod is made, placed and started.
        self.kubectl(&["delete", "pod", "-l", "app=web", "--wait=true", "--timeout=60s"]);
        self.kubectl(&["rollout", "status", "daemonset/web", "--timeout=60s"]);

        self.only_checks_of_what_stopped_fail(&[
            ("controller_manager", &leaders[0]),
            ("scheduler", &leaders[1]),
            ("module.etcd.", &member),
        ]);
        let drift = self.expect(2, &["drift"]);
        let units = [
            "module.control_plane.ssh_systemd_unit.kube_controller_manager",
            "module.control_plane.ssh_systemd_unit.kube_scheduler",
        ];
        for (unit, leader) in units.iter().zip(&leaders) {
            drift.says(&format!("{unit}[\"{leader}\"]"));
        }
        drift.says(&format!("module.etcd.ssh_systemd_unit.etcd[\"{member}\"]"));
        drift.says(&format!("module.etcd.etcd_voter.etcd[\"{member}\"]"));
        self.expect(0, &["apply", "--auto-approve"]).says("0 added, 4 changed, 0 destroyed.");
        self.is_in_sync();
    }

    /// Asserts that every check of the cluster passes, and that none passes of a program on the machine where it stopped.
    fn only_checks_of_what_stopped_fail(&self, stopped: &[(&str, &str)]) {
        let mut last = String::new();
        let only_those = try_wait_for(BUSY, || {
            let run = self.run(&["drift", "--json"]);
            let drift: Json = serde_json::from_str(&run.stdout).unwrap_or_default();
            let checks = drift["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_of_stopped = |check: &Json| {
                let address = check["address"].as_str().unwrap();
                let problems = || check["problems"].as_array().into_iter().flatten().filter_map(Json::as_str);
                // A probe from several machines is one check.
                let is_only_from = |node: &str| {
                    problems().next().is_some() && problems().all(|p| p.starts_with(&format!("from {node}: ")))
                };
                let is_of = |node: &str| address.contains(node) || is_only_from(node);
                stopped.iter().any(|(program, node)| address.contains(program) && is_of(node))
            };
            let (of_stopped, others): (Vec<_>, Vec<_>) = checks.iter().partition(|check| is_of_stopped(check));
            let wrong = others.iter().filter(|check| check["status"] != "pass");
            let wrong: Vec<_> = wrong.chain(of_stopped.iter().filter(|check| check["status"] != "fail")).collect();
            last = format!("{wrong:#?} of {checks:#?}");
            (wrong.is_empty() && of_stopped.len() >= stopped.len() && others.len() > 20).then_some(())
        });
        assert!(only_those.is_some(), "{last}");
    }

    /// Returns the machine with the leader of a program of the control plane.
    fn leader(&self, program: &str) -> String {
        let holder =
            self.kubectl(&["get", "lease", "-n", "kube-system", program, "-o", "jsonpath={.spec.holderIdentity}"]);
        holder.split('_').next().unwrap_or_default().to_owned()
    }
}

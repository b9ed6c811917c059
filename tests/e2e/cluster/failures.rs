//! The cluster goes on without the leaders of the control plane and without one member of etcd.

use std::time::Duration;

use super::site::Site;
use crate::support::wait_for;

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

    /// Returns the machine with the leader of a program of the control plane.
    fn leader(&self, program: &str) -> String {
        let holder =
            self.kubectl(&["get", "lease", "-n", "kube-system", program, "-o", "jsonpath={.spec.holderIdentity}"]);
        holder.split('_').next().unwrap_or_default().to_owned()
    }
}

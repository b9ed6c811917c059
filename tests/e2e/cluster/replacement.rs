//! The first control plane is replaced by another machine with the same name. The cluster stays available, and the other machines are not changed.
//! moorfast finds another API server by itself.
//! While another member of etcd is down, the replacement is refused.

use std::time::Duration;

use super::prober::while_available;
use super::site::Site;
use crate::support::wait_for;

const MINUTE: Duration = Duration::from_secs(60);

impl Site {
    pub fn the_first_control_plane_is_replaced(&mut self) {
        let [first, second] = [0, 1].map(|index| self.control_planes()[index].clone());
        let server = format!("https://{}:6443", second.address);
        let replace = ["--replace-node", &first.name];
        self.replace_machine(&first.name);

        self.testbed.on(&second.name, "systemctl stop etcd");
        let refused = self.expect(1, &[&["plan"][..], &replace].concat());
        eprintln!("the refusal took {:.1?}", refused.took);
        // No API server answers without a quorum. That is a consequence, which is not reported.
        refused.complains("refused, to keep the quorum of the etcd cluster").complains(&second.name);
        refused.complains("1 object could not be read or planned");
        self.testbed.on(&second.name, "systemctl start etcd");

        wait_for("the API server", MINUTE, || self.asks_api_server(&server).ok());
        let apply = while_available(&[(&server, &|| self.asks_api_server(&server))], || {
            self.expect(0, &[&["apply", "--auto-approve"][..], &replace].concat())
        });
        eprintln!("the replacement took {:.1?}: {}", apply.took, apply.line("Apply complete!"));
        assert_eq!(apply.operations_elsewhere(&first.name), Vec::<String>::new());
        let unit = self.testbed.on(&first.name, "cat /etc/systemd/system/etcd.service");
        assert!(unit.contains("--initial-cluster-state=existing"), "{unit}");
        self.is_in_sync();
    }

    /// Reads an object of etcd from an API server.
    pub fn asks_api_server(&self, server: &str) -> Result<(), String> {
        let run = self.try_kubectl(&["--server", server, "get", "namespace", "default"]);
        if run.code == 0 { Ok(()) } else { Err(run.stderr) }
    }
}

//! The first control plane is replaced by another machine with the same name. The cluster stays available, and the other machines are not changed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::site::Site;
use crate::support::wait_for;

const MINUTE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);

impl Site {
    pub fn the_first_control_plane_is_replaced(&mut self) {
        let [first, second] = [0, 1].map(|index| self.control_planes()[index].clone());
        let server = format!("https://{}:6443", second.address);
        let variable = format!("api_server={server}");
        let replace = ["--replace-node", &first.name, "--var", &variable];
        self.replace_machine(&first.name);

        wait_for("the API server", MINUTE, || self.answers(&server).then_some(()));
        let apply =
            self.while_available(&server, || self.expect(0, &[&["apply", "--auto-approve"][..], &replace].concat()));
        eprintln!("the replacement took {:.1?}: {}", apply.took, apply.line("Apply complete!"));
        assert_eq!(apply.operations_elsewhere(&first.name), Vec::<String>::new());
        let unit = self.testbed.on(&first.name, "cat /etc/systemd/system/etcd.service");
        assert!(unit.contains("--initial-cluster-state=existing"), "{unit}");
        self.is_in_sync();
    }

    /// Runs `change` while a client asks an API server again and again, and asserts that no request failed.
    fn while_available<T>(&self, server: &str, change: impl FnOnce() -> T) -> T {
        let is_over = AtomicBool::new(false);
        let (changed, (answers, failures)) = thread::scope(|scope| {
            let client = scope.spawn(|| {
                let (mut answers, mut failures) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    *(if self.answers(server) { &mut answers } else { &mut failures }) += 1;
                    thread::park_timeout(PAUSE);
                }
                (answers, failures)
            });
            let changed = catch_unwind(AssertUnwindSafe(change));
            is_over.store(true, Ordering::Relaxed);
            (changed, client.join().expect("the client does not panic"))
        });
        let changed = changed.unwrap_or_else(|panic| resume_unwind(panic));
        assert!(failures == 0 && answers > 20, "{answers} requests to {server} succeeded, {failures} failed");
        changed
    }

    /// Whether an API server reads an object from etcd.
    fn answers(&self, server: &str) -> bool {
        self.try_kubectl(&["--server", server, "get", "namespace", "default"]).code == 0
    }
}

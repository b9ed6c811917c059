//! Processes that a command started: all of them end with it, also a daemon without any trace of its origin.

use super::*;

/// Returns a shell command that starts a daemon in another session, with an empty environment and without a living parent.
fn detach(pid: &str) -> String {
    format!("env -i setsid sh -c '( sh -c \"echo \\$\\$ > {pid}; exec sleep 600\" </dev/null >/dev/null 2>&1 & )'")
}

impl Testbed {
    /// Returns whether the process with the pid in the file `pid` has ended.
    fn has_ended(&self, pid: &str) -> bool {
        self.sh(&format!("[ -s {pid} ] && {{ kill -0 \"$(cat {pid})\" 2>/dev/null && echo runs || echo ended; }}"))
            == "ended"
    }

    /// Waits until the script for the node has cleaned up.
    async fn wait_for_end(&self, pid: &str) {
        let ended = async {
            while !self.has_ended(pid) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the daemon is killed");
    }
}

#[tokio::test]
async fn a_timeout_ends_a_daemon_that_left_no_trace() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("rm -f /run/mf-daemon");
    let script = format!("{}; sleep 600", detach("/run/mf-daemon"));
    let error = world.apply("ssh_exec", attributes(json!({ "script": script, "timeout": "2s" }))).await.unwrap_err();
    assert_eq!(error.class, Class::Timeout);
    testbed.wait_for_end("/run/mf-daemon").await;
    let left = "for I in $(seq 50); do X=$(find /sys/fs/cgroup -name 'moorfast-*'); [ -n \"$X\" ] || break; sleep 0.1; done; echo \"$X\"";
    assert_eq!(testbed.sh(left), "", "no cgroup is left");
}

#[tokio::test]
async fn cancelling_a_plan_ends_a_daemon_of_a_check_command() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("rm -f /run/mf-check");
    let check = format!("{}; sleep 600", detach("/run/mf-check"));
    let desired = attributes(json!({ "command": ["true"], "unless": check }));
    let cancel = async {
        while testbed.sh("cat /run/mf-check").is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.cancel.cancel();
    };
    let (read, ()) = tokio::join!(world.read("ssh_exec", Some(desired)), cancel);
    assert_eq!(read.unwrap_err().class, Class::Cancelled);
    testbed.wait_for_end("/run/mf-check").await;
}

#[tokio::test]
async fn a_daemon_of_a_successful_command_keeps_running() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh("rm -f /run/mf-kept");
    let script = format!("{}; until [ -s /run/mf-kept ]; do sleep 0.05; done", detach("/run/mf-kept"));
    world.apply("ssh_exec", attributes(json!({ "script": script }))).await.unwrap();
    world.connection.close().await;
    assert_eq!(testbed.sh("sleep 3; kill \"$(cat /run/mf-kept)\" && echo was running"), "was running");
}

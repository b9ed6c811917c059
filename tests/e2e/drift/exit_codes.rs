//! The exit codes of `moorfast drift` with real machines: one for each cause, and of several causes the worst.

use crate::support::folder::{Folder, Run};
use crate::support::testbed::{Node, Testbed};

const RESOURCES: &str = r#"
[variables.user]
type    = "string"
default = "root"

[resource.ssh_file.kept]
on      = { role = "all" }
path    = "/etc/drift-exit"
content = "kept"
"#;

struct Bench {
    testbed: Testbed,
    moorfast: Folder,
}

#[test]
fn each_cause_has_an_exit_code() {
    let Some(testbed) = Testbed::up("drift-exit", 2) else { return };
    let bench = Bench { moorfast: Folder::new(""), testbed };
    let [first, second] = ["m7-autocv-gpu01", "m7-autocv-gpu02"];
    bench.write(&bench.testbed.facts.nodes);
    bench.moorfast.expect(0, &["apply", "--auto-approve"]);
    bench.drift_ends_with(0, &[]).says("In sync.");

    bench.testbed.on(first, "echo drift > /etc/drift-exit");
    bench.drift_ends_with(2, &[]).says("Drift: 1 object");

    // The drift of the other node is reported too.
    bench.testbed.run(&["node", "stop", second]);
    bench.drift_ends_with(5, &[]).says(&format!("ssh_file.kept[\"{first}\"] has changed"));
    bench.testbed.run(&["node", "start", second]);

    // Another machine-id with the old host keys.
    bench.testbed.on(second, "cp /etc/machine-id /root/was; echo 0123456789abcdef0123456789abcdef > /etc/machine-id");
    bench.drift_ends_with(6, &[]).says("re-imaged").says(&format!("ssh_file.kept[\"{first}\"] has changed"));
    bench.testbed.on(second, "cp /root/was /etc/machine-id");
    bench.drift_ends_with(2, &[]);

    bench.testbed.run(&["node", "replace", second]);
    bench.drift_ends_with(6, &[]).says(&format!("ssh_file.kept[\"{first}\"] has changed"));

    // Of several causes the worst: a replaced node before an unreachable one, and any other error before both.
    bench.testbed.run(&["node", "stop", first]);
    bench.drift_ends_with(6, &[]);
    bench.testbed.run(&["node", "start", first]);
    bench.drift_ends_with(1, &["--var", "user=nobody-there"]);
    bench.moorfast.edit("main.toml", "\"kept\"", "\"kept");
    bench.drift_ends_with(1, &[]);

    // The key of the new machine in the manifest approves it.
    bench.write(&bench.testbed.current_facts().nodes);
    bench.moorfast.expect(0, &["apply", "--auto-approve"]);
    bench.drift_ends_with(0, &[]).says("In sync.");
    let history = bench.moorfast.expect(0, &["drift", "--history"]);
    history.says(&format!("target {second}: unreachable")).says(&format!("node {second}: reimaged"));
}

impl Bench {
    fn write(&self, nodes: &[Node]) {
        let node = |node: &Node| self.testbed.facts.node_block(node, "${var.user}") + "roles = [\"all\"]\n\n";
        self.moorfast.write("main.toml", &(nodes.iter().map(node).collect::<String>() + RESOURCES));
    }

    /// Asserts the exit code of a drift run, also in its metrics.
    fn drift_ends_with(&self, code: i32, more: &[&str]) -> Run {
        let run = self.moorfast.expect(code, &[&["drift", "--metrics", "metrics"], more].concat());
        let metrics = std::fs::read_to_string(self.moorfast.path("metrics")).unwrap();
        let line = metrics.lines().find(|line| line.starts_with("moorfast_drift_exit_code{")).unwrap();
        assert!(line.ends_with(&format!(" {code}")), "{line}");
        run
    }
}

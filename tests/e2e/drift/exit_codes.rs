//! The exit code of `moorfast drift` tells what is wrong, each with real machines, and of several the worst.

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
fn the_exit_code_tells_what_is_wrong() {
    let Some(testbed) = Testbed::up("drift-exit", 2) else { return };
    let bench = Bench { moorfast: Folder::new(""), testbed };
    let [first, second] = ["m7-autocv-gpu01", "m7-autocv-gpu02"];
    bench.write(&bench.testbed.facts.nodes);
    bench.moorfast.expect(0, &["apply", "--auto-approve"]);
    bench.ends_with(0, &[]).says("In sync.");

    bench.testbed.on(first, "echo drift > /etc/drift-exit");
    bench.ends_with(2, &[]).says("Drift: 1 object");

    // The rest is told all the same.
    bench.testbed.run(&["node", "stop", second]);
    bench.ends_with(5, &[]).says(&format!("ssh_file.kept[\"{first}\"] has changed"));
    bench.testbed.run(&["node", "start", second]);

    // Another installation that has the host keys.
    bench.testbed.on(second, "cp /etc/machine-id /root/was; echo 0123456789abcdef0123456789abcdef > /etc/machine-id");
    bench.ends_with(6, &[]).says("re-imaged").says(&format!("ssh_file.kept[\"{first}\"] has changed"));
    bench.testbed.on(second, "cp /root/was /etc/machine-id");
    bench.ends_with(2, &[]);

    bench.testbed.run(&["node", "replace", second]);
    bench.ends_with(6, &[]).says(&format!("ssh_file.kept[\"{first}\"] has changed"));

    // Of several the worst: another machine before none, and what went wrong otherwise before both.
    bench.testbed.run(&["node", "stop", first]);
    bench.ends_with(6, &[]);
    bench.testbed.run(&["node", "start", first]);
    bench.ends_with(1, &["--var", "user=nobody-there"]);
    bench.moorfast.edit("main.toml", "\"kept\"", "\"kept");
    bench.ends_with(1, &[]);

    // With the new machine's key in the manifest it is the one that is meant.
    bench.write(&bench.testbed.current_facts().nodes);
    bench.moorfast.expect(0, &["apply", "--auto-approve"]);
    bench.ends_with(0, &[]).says("In sync.");
    let history = bench.moorfast.expect(0, &["drift", "--history"]);
    history.says(&format!("target {second}: unreachable")).says(&format!("node {second}: reimaged"));
}

impl Bench {
    fn write(&self, nodes: &[Node]) {
        let key = self.testbed.facts.ssh.identity_file.display();
        let node = |node: &Node| {
            let Node { name, address, .. } = node;
            let pin = node.pin();
            format!(
                "[nodes.{name}]\naddress = \"{address}\"\nhost_key = \"{pin}\"\nuser = \"${{var.user}}\"\nidentity_file = \"{key}\"\nroles = [\"all\"]\n\n"
            )
        };
        self.moorfast.write("main.toml", &(nodes.iter().map(node).collect::<String>() + RESOURCES));
    }

    /// A look ends so, and its metrics say the same.
    fn ends_with(&self, code: i32, more: &[&str]) -> Run {
        let run = self.moorfast.expect(code, &[&["drift", "--metrics", "metrics"], more].concat());
        let metrics = std::fs::read_to_string(self.moorfast.path("metrics")).unwrap();
        let line = metrics.lines().find(|line| line.starts_with("moorfast_drift_exit_code{")).unwrap();
        assert!(line.ends_with(&format!(" {code}")), "{line}");
        run
    }
}

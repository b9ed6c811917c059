//! The workflows of `docs/workflows` on real machines and a real cluster, with the commands of their pages.
//!
//! With `MOORFAST_RECORD=1` the screens are written to `docs/images`.

use std::path::Path;

use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;
use anstyle_svg::Term;

const SITE: &str = include_str!("site.toml");

#[test]
fn the_pages_work_as_written() {
    let Some(testbed) = Testbed::up("sessions", 2) else { return };
    let moorfast = Folder::new(SITE);
    moorfast.write("nodes.toml", &inventory(&testbed));
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display();
    moorfast.write("site.auto.vars.toml", &format!("kubeconfig = \"{kubeconfig}\"\n"));
    let session = Session { testbed, moorfast };
    session.review_then_apply();
    session.drift_in_cron();
    session.a_replaced_node();
}

/// Returns the nodes of the testbed under short names, without host keys: a person trusts them once.
fn inventory(testbed: &Testbed) -> String {
    let key = testbed.facts.ssh.identity_file.display();
    let node = |(name, node): (&str, &crate::support::testbed::Node)| {
        format!(
            "[nodes.{name}]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = \"{key}\"\nroles = [\"worker\"]\n\n",
            node.address
        )
    };
    ["gpu01", "gpu02"].into_iter().zip(&testbed.facts.nodes).map(node).collect()
}

struct Session {
    testbed: Testbed,
    moorfast: Folder,
}

impl Session {
    /// Runs commands as a person types them, and asserts the exit code.
    fn types(&self, code: i32, script: &str) -> Run {
        let run = self.moorfast.shell(script);
        assert_eq!(run.code, code, "{run}");
        run
    }

    /// Runs all commands of a page, one block after the other.
    fn page(&self, name: &str) {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workflows").join(name));
        for block in page.unwrap().split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            self.types(0, block);
        }
    }

    /// Runs a command and checks or records the picture of its screen.
    fn screen(&self, code: i32, picture: &str, command: &str) -> Run {
        let run = self.types(code, &command.replacen("moorfast ", "moorfast --color always ", 1));
        let prompt = format!("\u{1b}[2m$\u{1b}[0m \u{1b}[1m{command}\u{1b}[0m\n\n");
        let svg = Term::new().render_svg(&format!("{prompt}{}", run.stdout));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images").join(picture);
        if std::env::var("MOORFAST_RECORD").as_deref() == Ok("1") {
            std::fs::write(&path, svg).unwrap();
        }
        assert!(path.is_file(), "{picture} is missing: MOORFAST_RECORD=1 makes it");
        run
    }

    fn node(&self, index: usize) -> &str {
        &self.testbed.facts.nodes[index].name
    }

    fn review_then_apply(&self) {
        self.types(0, "moorfast node trust gpu01 gpu02");
        self.types(0, "moorfast apply --auto-approve");
        // One value changes a file and a daemon on each node, and an object.
        self.types(0, "sed -i 's/default = \"info\"/default = \"debug\"/' main.toml");
        let plan = self.screen(0, "review-plan.svg", "moorfast plan");
        plan.says("will be restarted").says("gpu01, gpu02");
        self.page("review.md");
        for index in [0, 1] {
            assert!(self.testbed.on(self.node(index), "cat /run/agent.conf").contains("log_level = debug"));
        }
        let object = self.testbed.get(&["configmap", "agents"]);
        assert_eq!(object["data"]["level"], "debug");
        self.types(0, "moorfast plan --detailed-exitcode").says("No changes.");
    }

    fn drift_in_cron(&self) {
        self.page("drift.md");
        // Changes by hand.
        self.testbed.on(self.node(0), "sed -i 's/30s/5s/' /etc/agent/agent.conf; systemctl stop agent");
        self.testbed.kubectl(&["delete", "configmap", "agents"]);
        let drift = self.screen(2, "drift.svg", "moorfast drift");
        drift.says("3 objects").says("5s").says("is gone");
        self.types(2, "moorfast drift --since-last");
        self.types(0, "moorfast drift --since-last").says("No new drift.");
        // An apply reverts them.
        self.types(0, "moorfast apply --auto-approve");
        self.types(0, "moorfast drift").says("In sync.");
        self.types(0, "moorfast drift --history").says("ssh_file.agent[\"gpu01\"]");
    }

    fn a_replaced_node(&self) {
        self.testbed.run(&["node", "replace", self.node(1)]);
        let plan = self.screen(0, "replaced-node.svg", "moorfast plan");
        plan.says("node gpu02 replaced: SHA256:").says("not approved");
        self.types(1, "moorfast apply --auto-approve");
        self.types(0, "moorfast apply --auto-approve --replace-node gpu02").says("Apply complete!");
        assert!(self.testbed.on(self.node(1), "cat /run/agent.conf").contains("log_level = debug"));
        self.types(0, "moorfast plan --detailed-exitcode").says("No changes.");
        self.types(0, "moorfast destroy --auto-approve");
    }
}

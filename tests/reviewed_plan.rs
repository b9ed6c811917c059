//! Eleven kinds of change between `plan --out` and `apply FILE`: each stops what it should, and nothing else.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

mod support;

use std::time::Duration;

use support::moorfast::{Moorfast, Run};
use support::testbed::Testbed;
use support::wait_for;

/// What is looked at after each case: whether the operation on it was done.
const ALL: [&str; 6] = ["edited", "dependant", "free", "input", "note", "other"];

#[test]
fn changes_after_the_review() {
    let Some(testbed) = Testbed::up("reviewed-plan", 1) else { return };
    let bench = Bench::new(testbed);
    let on_node = |script: &'static str| move |b: &Bench| drop(b.testbed.on(b.node(), script));
    bench.case(
        "a file was edited",
        &["edited", "dependant"],
        on_node("printf somebody >/srv/reviewed/edited"),
        |run| {
            run.complains("no longer look as they were reviewed").complains("ssh_file.edited");
            run.complains("before \"one\"").complains("reviewed \"two\"").complains("now \"somebody\"");
        },
    );
    bench.case("a file was deleted", &["edited", "dependant"], on_node("rm /srv/reviewed/edited"), |run| {
        run.complains("ssh_file.edited").complains("it existed at the review and does not exist any more");
    });
    bench.case(
        "another manager changed an object",
        &["note"],
        |b| {
            let patch = "{\"data\":{\"text\":\"somebody\"}}";
            let words = ["patch", "configmap", "note", "--field-manager", "somebody", "--patch", patch];
            b.testbed.kubectl(&words);
        },
        |run| {
            run.complains("kubernetes_object.note").complains("before \"one\"").complains("now \"somebody\"");
        },
    );
    bench.case(
        "an object was deleted",
        &["note"],
        |b| drop(b.testbed.kubectl(&["delete", "configmap", "note"])),
        |run| {
            run.complains("kubernetes_object.note").complains("does not exist any more");
        },
    );
    bench.case("the node was rebooted", &[], |b| drop(b.testbed.run(&["node", "reboot", b.node()])), |_| {});
    bench.case(
        "the state moved",
        &ALL,
        |b| {
            drop(
                b.moorfast
                    .expect(0, &["apply", "--auto-approve", "--var", "extra=moved", "--target", "ssh_file.extra"]),
            )
        },
        |run| _ = run.complains("the state changed since the plan was made"),
    );
    bench.case(
        "the manifest was edited",
        &ALL,
        |b| b.moorfast.write("moorfast.toml", &(b.manifest() + "# a line more\n")),
        |run| _ = run.complains("the manifest changed since the plan was made"),
    );
    bench.case(
        "an input was changed",
        &ALL,
        |b| b.moorfast.write("input.txt", "another input"),
        |run| _ = run.complains("input.txt").complains("changed since the plan was made"),
    );
    bench.variable_changed();
    bench.node_unreachable();
    bench.node_replaced();
}

struct Bench {
    testbed: Testbed,
    moorfast: Moorfast,
}

impl Bench {
    fn new(testbed: Testbed) -> Self {
        Self { testbed, moorfast: Moorfast::with("") }
    }

    fn node(&self) -> &str {
        &self.testbed.facts.nodes[0].name
    }

    /// Everything is as of the text `one`, and a plan for `two` is reviewed.
    fn review(&self) {
        self.moorfast.write("moorfast.toml", &self.manifest());
        self.moorfast.write("input.txt", "input of one");
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.moorfast.write("input.txt", "input of two");
        self.moorfast.expect(0, &["plan", "--out", "reviewed.plan", "--var", "text=two"]);
    }

    /// After `change` the reviewed plan does all but what concerns `stopped`, ends with 4 if that is something, and says why.
    fn case(&self, name: &str, stopped: &[&str], change: impl FnOnce(&Self), says: impl FnOnce(&Run)) {
        eprintln!("case: {name}");
        self.review();
        change(self);
        let run = self.moorfast.expect(if stopped.is_empty() { 0 } else { 4 }, &["apply", "reviewed.plan"]);
        says(&run);
        self.did_all_but(stopped, &run);
        // What is reviewed now is done.
        self.moorfast.write("moorfast.toml", &self.manifest());
        self.moorfast.write("input.txt", "input of two");
        self.moorfast.expect(0, &["plan", "--out", "again.plan", "--var", "text=two"]);
        let run = self.moorfast.expect(0, &["apply", "again.plan"]);
        self.did_all_but(&[], &run);
    }

    fn variable_changed(&self) {
        eprintln!("case: a variable was changed");
        self.review();
        let run = self.moorfast.expect(4, &["apply", "reviewed.plan", "--var", "text=three"]);
        run.complains("the variable `text` changed since the plan was made");
        self.did_all_but(&ALL, &run);
    }

    /// What lives elsewhere and depends on nothing there is done.
    fn node_unreachable(&self) {
        eprintln!("case: the node does not answer");
        self.review();
        self.testbed.run(&["node", "stop", self.node()]);
        let run = self.moorfast.expect(1, &["apply", "reviewed.plan"]);
        run.complains(self.node()).complains("ssh_file.edited");
        self.testbed.run(&["node", "start", self.node()]);
        wait_for("the node", Duration::from_secs(60), || {
            self.testbed.try_on(self.node(), "systemctl is-active ssh").is_ok_and(|o| o.status.success()).then_some(())
        });
        self.did_all_but(&["edited", "dependant", "free", "input"], &run);
        self.moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
        self.moorfast.expect(0, &["plan", "--detailed-exitcode", "--var", "text=two"]);
    }

    /// Nothing is done on a machine that nobody saw when the plan was reviewed.
    fn node_replaced(&self) {
        eprintln!("case: the node was replaced");
        self.review();
        self.testbed.run(&["node", "replace", self.node()]);
        let run = self.moorfast.expect(1, &["apply", "reviewed.plan"]);
        run.complains(&format!("node {} replaced: SHA256:", self.node()));
        self.testbed.on(self.node(), "! test -e /srv/reviewed");
        for name in ["note", "other"] {
            assert_eq!(self.testbed.get(&["configmap", name])["data"]["text"], "two", "{name}\n{run}");
        }
    }

    /// Where the text `two` of the reviewed plan has arrived.
    fn did_all_but(&self, stopped: &[&str], run: &Run) {
        let files = self.testbed.on(self.node(), "cd /srv/reviewed && grep -H '' $(ls)");
        let config_maps = ["note", "other"].map(|name| {
            let text = self.testbed.get(&["configmap", name])["data"]["text"].as_str().unwrap_or_default().to_owned();
            format!("{name}:{text}")
        });
        let done = |name: &&&str| {
            let is_done = |line: &str| line.strip_prefix(&format!("{name}:")).is_some_and(|text| text.ends_with("two"));
            files.lines().any(is_done) || config_maps.iter().any(|line| is_done(line))
        };
        let found: Vec<_> = ALL.iter().filter(done).collect();
        let wanted: Vec<_> = ALL.iter().filter(|name| !stopped.contains(name)).collect();
        assert_eq!(found, wanted, "{files}\n{config_maps:?}\n{run}");
    }

    fn manifest(&self) -> String {
        let node = &self.testbed.facts.nodes[0];
        let mut text = format!(
            "[variables.text]\ntype = \"string\"\ndefault = \"one\"\n\
             [variables.extra]\ntype = \"string\"\ndefault = \"nothing\"\n\
             [nodes.{name}]\naddress = \"{address}\"\nuser = \"root\"\nidentity_file = \"{key}\"\nhost_key = \"{pin}\"\n\
             [providers.ssh]\nconnect_timeout = \"3s\"\n\
             [providers.kubernetes]\nkubeconfig = \"{kubeconfig}\"\n\
             [resource.ssh_directory.folder]\non = \"all\"\npath = \"/srv/reviewed\"\n",
            name = node.name,
            address = node.address,
            key = self.testbed.facts.ssh.identity_file.display(),
            pin = node.pin(),
            kubeconfig = self.testbed.facts.control_plane.kubeconfig.display(),
        );
        let files = [
            ("edited", "${var.text}", ""),
            ("dependant", "after ${var.text}", "depends_on = [\"ssh_file.edited\"]\n"),
            ("free", "${var.text}", ""),
            ("input", "${file(\"input.txt\")}", ""),
            ("extra", "${var.extra}", ""),
        ];
        for (name, content, more) in files {
            text += &format!(
                "[resource.ssh_file.{name}]\non = \"all\"\npath = \"${{ssh_directory.folder.path}}/{name}\"\ncontent = '{content}'\n{more}"
            );
        }
        for name in ["note", "other"] {
            text += &format!(
                "[resource.kubernetes_object.{name}]\nforce_conflicts = true\n[resource.kubernetes_object.{name}.manifest]\n\
                 apiVersion = \"v1\"\nkind = \"ConfigMap\"\nmetadata = {{ name = \"{name}\", namespace = \"default\" }}\n\
                 data = {{ text = \"${{var.text}}\" }}\n"
            );
        }
        text
    }
}

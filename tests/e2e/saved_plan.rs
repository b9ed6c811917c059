//! Changes between `plan --out` and `apply FILE`: each stops exactly the operations that it makes stale.

use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;
use crate::support::wait_for;

/// The objects that are checked after each case.
const ALL: [&str; 6] = ["edited", "dependant", "free", "input", "note", "other"];

#[test]
fn changes_after_the_review() {
    let Some(testbed) = Testbed::up("reviewed-plan", 1) else { return };
    let review = Review::new(testbed);
    let on_node = |script: &'static str| move |b: &Review| drop(b.testbed.on(b.node(), script));
    review.case(
        "a file was edited",
        &["edited", "dependant"],
        on_node("printf somebody >/srv/reviewed/edited"),
        |run| {
            run.complains("these objects changed since the plan").complains("ssh_file.edited");
            run.complains("before \"one\"").complains("reviewed \"two\"").complains("now \"somebody\"");
        },
    );
    review.case("a file was deleted", &["edited", "dependant"], on_node("rm /srv/reviewed/edited"), |run| {
        run.complains("ssh_file.edited").complains("it existed at the review and does not exist any more");
    });
    review.case(
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
    review.case(
        "an object was deleted",
        &["note"],
        |b| drop(b.testbed.kubectl(&["delete", "configmap", "note"])),
        |run| {
            run.complains("kubernetes_object.note").complains("does not exist any more");
        },
    );
    review.case("the node was rebooted", &[], |b| drop(b.testbed.run(&["node", "reboot", b.node()])), |_| {});
    review.case(
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
    review.case(
        "the manifest was edited",
        &ALL,
        |b| b.moorfast.write("main.toml", &(b.manifest() + "# a line more\n")),
        |run| _ = run.complains("the manifest changed since the plan was made"),
    );
    review.case(
        "an input was changed",
        &ALL,
        |b| b.moorfast.write("input.txt", "another input"),
        |run| _ = run.complains("input.txt").complains("changed since the plan was made"),
    );
    review.variable_changed();
    review.node_unreachable();
    review.node_replaced();
}

struct Review {
    testbed: Testbed,
    moorfast: Folder,
}

impl Review {
    fn new(testbed: Testbed) -> Self {
        Self { testbed, moorfast: Folder::new("") }
    }

    fn node(&self) -> &str {
        &self.testbed.facts.nodes[0].name
    }

    /// Applies the text `one`, and saves a plan for the text `two`.
    fn save_plan(&self) {
        self.moorfast.write("main.toml", &self.manifest());
        self.moorfast.write("input.txt", "input of one");
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.moorfast.write("input.txt", "input of two");
        self.moorfast.expect(0, &["plan", "--out", "reviewed.plan", "--var", "text=two"]);
    }

    /// After `change` the saved plan changes all objects but those of `stopped`, ends with 4 if there are any, and reports why.
    fn case(&self, name: &str, stopped: &[&str], change: impl FnOnce(&Self), says: impl FnOnce(&Run)) {
        eprintln!("case: {name}");
        self.save_plan();
        change(self);
        let run = self.moorfast.expect(if stopped.is_empty() { 0 } else { 4 }, &["apply", "reviewed.plan"]);
        says(&run);
        self.assert_changed_all_but(stopped, &run);
        // A new plan is applied.
        self.moorfast.write("main.toml", &self.manifest());
        self.moorfast.write("input.txt", "input of two");
        self.moorfast.expect(0, &["plan", "--out", "again.plan", "--var", "text=two"]);
        let run = self.moorfast.expect(0, &["apply", "again.plan"]);
        self.assert_changed_all_but(&[], &run);
    }

    fn variable_changed(&self) {
        eprintln!("case: a variable was changed");
        self.save_plan();
        let run = self.moorfast.expect(4, &["apply", "reviewed.plan", "--var", "text=three"]);
        run.complains("the variable `text` changed since the plan was made");
        self.assert_changed_all_but(&ALL, &run);
    }

    /// Objects of other targets that do not depend on the node are changed.
    fn node_unreachable(&self) {
        eprintln!("case: the node does not answer");
        self.save_plan();
        self.testbed.run(&["node", "stop", self.node()]);
        let run = self.moorfast.expect(1, &["apply", "reviewed.plan"]);
        run.complains(self.node()).complains("ssh_file.edited");
        self.testbed.run(&["node", "start", self.node()]);
        wait_for("the node", Duration::from_secs(60), || {
            self.testbed.try_on(self.node(), "systemctl is-active ssh").is_ok_and(|o| o.status.success()).then_some(())
        });
        self.assert_changed_all_but(&["edited", "dependant", "free", "input"], &run);
        self.moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
        self.moorfast.expect(0, &["plan", "--detailed-exitcode", "--var", "text=two"]);
    }

    /// Nothing is changed on a machine that was not there when the plan was made.
    fn node_replaced(&self) {
        eprintln!("case: the node was replaced");
        self.save_plan();
        self.testbed.run(&["node", "replace", self.node()]);
        let run = self.moorfast.expect(1, &["apply", "reviewed.plan"]);
        run.complains(&format!("node {} replaced: SHA256:", self.node()));
        self.testbed.on(self.node(), "! test -e /srv/reviewed");
        for name in ["note", "other"] {
            assert_eq!(self.testbed.get(&["configmap", name])["data"]["text"], "two", "{name}\n{run}");
        }
    }

    /// Asserts which objects have the text `two` of the saved plan.
    fn assert_changed_all_but(&self, stopped: &[&str], run: &Run) {
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
        let facts = &self.testbed.facts;
        let mut text = format!(
            "[variables.text]\ntype = \"string\"\ndefault = \"one\"\n\
             [variables.extra]\ntype = \"string\"\ndefault = \"nothing\"\n\
             {node}[providers.ssh]\nconnect_timeout = \"3s\"\n\
             {cluster}[resource.ssh_directory.folder]\non = \"all\"\npath = \"/srv/reviewed\"\n",
            node = facts.node_block(&facts.nodes[0], "root"),
            cluster = facts.cluster_block(),
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

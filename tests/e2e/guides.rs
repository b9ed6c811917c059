//! The guides of `docs/start`, as a person follows them: files are written and commands are run in the order of the page.

use std::path::Path;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

/// Follows a guide in a folder. `adapted` replaces what is another on the testbed, and `preparation` is run before each command.
fn follow(page: &str, folder: &Folder, preparation: &str, adapted: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/start").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let mut commands = 0;
    for block in text.split("\n```").skip(1).step_by(2) {
        let (language, block) = block.split_once('\n').unwrap();
        if let Some((name, content)) = block.strip_prefix("# ").and_then(|block| block.split_once('\n')) {
            folder.write(name, &adapted(content));
            continue;
        }
        assert_eq!(language, "sh", "{page}: {block}");
        for line in block.lines() {
            let (command, code) = match line.split_once("   # exit code ") {
                Some((command, code)) => (command, code.parse().unwrap()),
                None => (line, 0),
            };
            // A person answers the question.
            let command = match command {
                "moorfast apply" | "moorfast destroy" => format!("{command} --auto-approve"),
                other => other.to_owned(),
            };
            let run = folder.shell(&format!("{preparation}\n{command}"));
            assert_eq!(run.code, code, "{page}: {run}");
            commands += 1;
        }
    }
    assert!(commands > 3, "{page} has commands");
}

#[test]
fn a_first_manifest() {
    follow("quickstart.md", &Folder::empty(), "", str::to_owned);
}

#[test]
fn a_first_machine_an_existing_one_and_a_first_object() {
    let Some(testbed) = Testbed::up("guides", 1) else { return };
    let (node, control_plane) = (&testbed.facts.nodes[0], &testbed.facts.control_plane);
    let key = testbed.facts.ssh.identity_file.display();
    let with_address =
        |text: &str| text.replace("\"10.0.0.11\"", &format!("\"{}\"\nidentity_file = \"{key}\"", node.address));
    testbed.on(&node.name, "echo 'PermitRootLogin prohibit-password' > /etc/ssh/sshd_config.d/10-root.conf");

    let folder = Folder::empty();
    follow("existing-machine.md", &folder, "", with_address);
    folder.expect(0, &["state", "list"]).says("ssh_systemd_unit.ssh_service");
    let folder = Folder::empty();
    follow("first-machine.md", &folder, "", with_address);
    assert!(
        testbed.on(&node.name, "cat /etc/hello.conf; systemctl is-active hello").contains("good morning from web1")
    );

    let kubectl = control_plane.binaries["kubectl"].parent().unwrap().display();
    let kubeconfig = control_plane.kubeconfig.display();
    let folder = Folder::empty();
    folder.write("admin.kubeconfig", &std::fs::read_to_string(&control_plane.kubeconfig).unwrap());
    follow("first-object.md", &folder, &format!("export PATH={kubectl}:$PATH KUBECONFIG={kubeconfig}"), str::to_owned);
}

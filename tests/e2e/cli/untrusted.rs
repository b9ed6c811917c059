//! `plan --untrusted`: everything that an untrusted manifest could do on this machine is refused by name.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::folder::Folder;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1cQk8r6gDyBqaTq5bBqNCnvA0hJvX3n1yDQ6Hk0Fq";

/// Plans `manifest` with `--untrusted`, which must be refused with these texts.
#[track_caller]
fn refused(manifest: &str, says: &[&str]) {
    refused_in(&Folder::new(manifest), says);
}

#[track_caller]
fn refused_in(folder: &Folder, says: &[&str]) {
    let run = folder.expect(1, &["plan", "--untrusted"]);
    for text in says.iter().chain(&["`plan --untrusted`"]) {
        assert!(run.stderr.contains(text), "{text}: {run:?}");
    }
    assert!(!folder.path("ran").exists(), "a command ran");
}

fn remote(more: &str) -> String {
    format!("[nodes.n]\naddress = \"127.0.0.1\"\nport = 1\nhost_key = \"{KEY}\"\n{more}")
}

#[test]
fn files_outside_of_the_manifest_are_refused() {
    for read in [
        r#"file("/etc/passwd")"#,
        r#"filebase64("../secret")"#,
        r#"templatefile("/etc/passwd", {})"#,
        r#"fileexists("/root/.ssh/id_ed25519")"#,
        r#"fileset("/etc", "*")"#,
        r#"file("link")"#,
        r#"file(".moorfast/state.key")"#,
    ] {
        let folder = Folder::new(&format!("[outputs.a]\nvalue = '${{{read}}}'\n"));
        symlink("/etc/passwd", folder.path("link")).unwrap();
        fs::create_dir(folder.path(".moorfast")).unwrap();
        folder.write(".moorfast/state.key", "01234567890123456789012345678901");
        refused_in(&folder, &["reads only files in the folder of the manifest"]);
    }
    let validation = r#"
[variables.a]
type       = "string"
default    = "x"
validation = [{ condition = '${file("/etc/hostname") == ""}', error_message = "no" }]
"#;
    refused(validation, &["reads only files in the folder of the manifest"]);
    let source = remote("[resource.ssh_file.f]\non = \"n\"\npath = \"/x\"\nsource = \"/etc/passwd\"\n");
    let run = Folder::new(&source).expect(1, &["plan", "--untrusted"]);
    assert!(!run.stderr.contains("root:"), "{run:?}");
}

#[test]
fn secrets_of_this_machine_are_refused() {
    refused("[outputs.a]\nvalue = '${age_decrypt(\"x\")}'\n", &["decrypts nothing"]);
    refused(
        "[keystore]\nfile = \"keys\"\n[resource.pki_random.r]\nname = \"r\"\nlength = 32\n",
        &["does not open the key store"],
    );
}

#[test]
fn a_link_as_a_part_of_the_manifest_is_refused() {
    for name in ["more.toml", "more.auto.vars.toml"] {
        let folder = Folder::new("");
        symlink("/etc/passwd", folder.path(name)).unwrap();
        refused_in(&folder, &[name]);
        let run = folder.expect(1, &["plan", "--untrusted"]);
        assert!(!run.stderr.contains("root:"), "{run:?}");
    }
}

#[test]
fn commands_are_refused() {
    let guard = "[resource.ssh_exec.e]\non = \"n\"\ncommand = [\"true\"]\nunless = \"touch ran\"\n";
    refused(&remote(guard), &["`unless`"]);
    let chart = "[data.kubernetes_rendered.web]\nchart = \".\"\nrelease = \"web\"\n";
    refused(chart, &["data.kubernetes_rendered.web"]);
    refused(&remote(&guard.replace("unless", "only_if")), &["`only_if`"]);
    refused(&format!("[nodes.n]\ntransport = \"local\"\n{guard}"), &["the node n is local"]);
    let file = "[resource.ssh_file.f]\non = \"n\"\npath = \"/etc/shadow\"\ncontent = \"x\"\n";
    refused(&format!("[nodes.n]\ntransport = \"local\"\n{file}"), &["the node n is local"]);
    let config = format!("[providers.ssh]\nconfig_file = \"ssh_config\"\n{}", remote(file));
    let folder = Folder::new(&config);
    folder.write("ssh_config", "Host *\n  ProxyCommand touch ran\n");
    refused_in(&folder, &["`config_file`"]);
}

#[test]
fn kubeconfigs_of_the_manifest_are_refused() {
    let object = "[resource.kubernetes_object.o]\nmanifest = { apiVersion = \"v1\", kind = \"ConfigMap\", metadata = { name = \"a\", namespace = \"b\" } }\n";
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [ran], interactiveMode: Never}}}]\n";
    let folder = Folder::new(&format!("[providers.kubernetes]\nkubeconfig = \"kubeconfig\"\n{object}"));
    folder.write("kubeconfig", kubeconfig);
    refused_in(&folder, &["`kubeconfig`"]);
    // A pull request can also change the files around the folder of the manifest.
    let beside = Folder::new(&format!(
        "[providers.kubernetes]\nkubeconfig = \"{}\"\n{object}",
        folder.path("kubeconfig").display()
    ));
    refused_in(&beside, &["`kubeconfig`", "$KUBECONFIG"]);
    assert!(!folder.path("ran").exists(), "a command ran");
    refused(
        &format!("[providers.kubernetes]\nkubeconfig_content = '''\n{kubeconfig}'''\n{object}"),
        &["`kubeconfig_content`"],
    );
}

#[test]
fn a_kubeconfig_that_the_user_chose_is_used() {
    let object = "[resource.kubernetes_object.o]\nmanifest = { apiVersion = \"v1\", kind = \"ConfigMap\", metadata = { name = \"a\", namespace = \"b\" } }\n";
    let own = Folder::new("");
    own.write("kubeconfig", "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n");
    let chosen = own.path("kubeconfig").display().to_string();
    let folder = Folder::new(&format!("[providers.kubernetes]\nkubeconfig = \"{chosen}\"\n{object}"));
    let run = folder.command(&["plan", "--untrusted"]).env("KUBECONFIG", &chosen).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(errors.contains("127.0.0.1:1") && !errors.contains("--untrusted"), "{errors}");
}

#[test]
fn a_user_with_shell_syntax_is_refused() {
    for user in ["$(touch ran)", "`touch ran`", "x;touch ran", "-oProxyCommand=touch ran"] {
        let node = remote("[resource.ssh_file.f]\non = \"n\"\npath = \"/x\"\ncontent = \"x\"\n");
        for line in [format!("user = '{user}'"), format!("jump = '{user}@127.0.0.1'")] {
            let run = Folder::new(&node.replace("port = 1", &line)).expect(1, &["plan"]);
            assert!(run.stderr.contains("is not a valid user for ssh"), "{line}: {run:?}");
        }
    }
}

#[test]
fn requests_are_refused() {
    refused("[check.phone_home]\nhttp = { url = \"http://127.0.0.1:1/\" }\n", &["the check `phone_home`"]);
    for backend in [
        "postgres]\nurl = \"postgresql://kim@127.0.0.1:1/ops\"",
        "s3]\nbucket = \"b\"\nendpoint = \"http://127.0.0.1:1\"\nregion = \"r\"",
        "kubernetes]\nkubeconfig = \"kubeconfig\"",
    ] {
        refused(&format!("[backend.{backend}\n"), &["does not open the backend that the manifest configures"]);
    }
    // A record in the folder of the manifest is a part of it.
    let folder = Folder::new("");
    fs::create_dir(folder.path(".moorfast")).unwrap();
    let record = r#"{"backend": {"type": "postgres", "url": "postgresql://kim@127.0.0.1:1/ops"}, "lineage": "x"}"#;
    folder.write(".moorfast/backend.json", record);
    refused_in(&folder, &["does not open the backend that the manifest configures"]);
}

#[test]
fn a_harmless_manifest_is_planned() {
    let folder = Folder::new("[outputs.a]\nvalue = '${file(\"greeting\")}'\n");
    folder.write("greeting", "hello");
    folder.expect(0, &["plan", "--untrusted"]).says("hello");
}

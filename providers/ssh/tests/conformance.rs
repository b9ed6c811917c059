//! Resource types of the provider keep the laws of a provider: on this machine, and on the first node of the testbed whose description
//! MOORFAST_TESTBED_JSON names.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use moorfast_conformance::{Case, check};
use moorfast_engine::provider::Provider;
use moorfast_ssh::SshProvider;
use serde_json::Value as Json;

async fn keeps_the_laws(case: &Case) {
    let providers: [Arc<dyn Provider>; 1] = [Arc::new(SshProvider)];
    check(&providers, case).await.unwrap();
}

/// Returns the names and the contents of everything below a folder, as a shell sees them.
fn listing(folder: &Path) -> String {
    shell(Command::new("sh").arg("-c").arg(LISTING).arg("sh").arg(folder))
}

const LISTING: &str = "cd \"$1\" 2>/dev/null && find . ! -name '.moorfast*' -printf '%p %M %u %l\\n' | sort && \
                       find . -type f -exec sha256sum {} + | sort";

fn shell(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Returns a manifest with this machine as its only node.
fn here(resources: &str) -> String {
    format!("[nodes.here]\naddress = \"127.0.0.1\"\ntransport = \"local\"\nsudo = false\n\n{resources}")
}

#[tokio::test]
async fn files_folders_and_links_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let manifest = |content: &str, mode: &str, target: &str| {
        here(&format!(
            r#"
            [resource.ssh_directory.folder]
            on   = "here"
            path = "{root}/conf.d"
            mode = "{mode}"

            [resource.ssh_file.plain]
            on      = "here"
            path    = '${{ssh_directory.folder["here"].path}}/plain.conf'
            content = "{content}"

            [resource.ssh_file.hidden]
            on      = "here"
            path    = "{root}/hidden.conf"
            mode    = "0600"
            content = '${{sensitive("hidden {content}")}}'

            [resource.ssh_link.current]
            on     = "here"
            path   = "{root}/current"
            target = "{target}"
            "#
        ))
    };
    let (seen, disturbed) = (folder.path().to_owned(), folder.path().join("hidden.conf"));
    let case = Case::new(manifest("first", "0755", "conf.d"))
        .update(manifest("second", "0755", "conf.d"))
        .update(manifest("second", "0700", "hidden.conf"))
        .reject(here("[resource.ssh_file.x]\non = \"here\"\npath = \"not/absolute\"\ncontent = \"x\"\n"), "path")
        .reject(here("[resource.ssh_directory.x]\non = \"here\"\npath = \"/tmp/x\"\nmode = \"rw\"\n"), "mode")
        .secret("hidden first")
        .secret("hidden second")
        .snapshot(move || listing(&seen))
        .disturb(move || fs::write(&disturbed, "changed by hand").unwrap());
    keeps_the_laws(&case).await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn blocks_in_a_file_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    fs::write(&path, "127.0.0.1 localhost\nlast line without a break").unwrap();
    let manifest = |comment: &str, content: &str| {
        here(&format!(
            r#"
            [resource.ssh_file_block.cluster]
            on       = "here"
            for_each = ["one", "two"]
            path     = "{path}"
            name     = "${{each.value}}"
            after    = "localhost"
            comment  = "{comment}"
            content  = "{content} ${{each.value}}"

            [resource.ssh_file_block.hidden]
            on      = "here"
            path    = "{path}"
            name    = "hidden"
            content = '${{sensitive("hidden {content}")}}'
            "#,
            path = path.display(),
        ))
    };
    let (seen, disturbed) = (folder.path().to_owned(), path.clone());
    let block =
        |attribute: &str| here(&format!("[resource.ssh_file_block.x]\non = \"here\"\npath = \"/x\"\n{attribute}\n"));
    let case = Case::new(manifest("#", "first"))
        .update(manifest("#", "second"))
        .update(manifest(";", "second\\nthird"))
        .reject(block("name = \"a b\"\ncontent = \"\""), "name")
        .reject(block("name = \"a\"\ncontent = \"# END moorfast b\""), "content")
        .secret("hidden first")
        .secret("hidden second")
        .snapshot(move || listing(&seen))
        .disturb(move || {
            let text = fs::read_to_string(&disturbed).unwrap();
            fs::write(&disturbed, text.replace("third one", "changed by hand")).unwrap();
        });
    keeps_the_laws(&case).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\nlast line without a break");
}

#[tokio::test]
async fn objects_of_a_host_on_a_node() {
    let Some(path) = std::env::var_os("MOORFAST_TESTBED_JSON") else {
        eprintln!("skipped: MOORFAST_TESTBED_JSON names no testbed");
        return;
    };
    let testbed: Json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let node = &testbed["nodes"][0];
    let keys: Vec<_> = node["host_keys"].as_array().unwrap().iter().map(|key| text(&key["public_key"])).collect();
    let (address, identity) = (text(&node["address"]), text(&testbed["ssh"]["identity_file"]));
    let manifest = |sleep: u32, shell: &str| {
        format!(
            r#"
            [nodes.node]
            address       = "{address}"
            port          = {port}
            user          = "root"
            identity_file = "{identity}"
            host_key      = {keys:?}

            [resource.ssh_systemd_unit.service]
            on      = "node"
            name    = "moorfast-conformance.service"
            enabled = true
            state   = "running"
            content = """
            [Unit]
            Description=A test
            [Service]
            ExecStart=/bin/sleep {sleep}
            [Install]
            WantedBy=multi-user.target
            """

            [resource.ssh_user.account]
            on    = "node"
            name  = "moorfast-conformance"
            shell = "{shell}"

            [resource.ssh_mount.memory]
            on      = "node"
            path    = "/moorfast-conformance"
            source  = "tmpfs"
            fstype  = "tmpfs"
            options = ["size={sleep}k"]

            [resource.ssh_nftables_table.firewall]
            on    = "node"
            name  = "moorfast-conformance"
            rules = "chain input {{ type filter hook input priority 0; tcp dport {sleep} counter accept; }}"
            "#,
            port = node["port"].as_u64().unwrap_or(22),
        )
    };
    let (address, identity) = (address.clone(), identity.clone());
    let run = move |script: &str| {
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-i", &identity]).args(options.iter().flat_map(|option| ["-o", option]));
        shell(ssh.arg(format!("root@{address}")).arg(script))
    };
    run("[ -x /usr/sbin/nft ] || { apt-get update; apt-get install -y nftables; }");
    let disturb = run.clone();
    let case = Case::new(manifest(1000, "/bin/sh"))
        .update(manifest(2000, "/bin/sh"))
        .update(manifest(2000, "/usr/sbin/nologin"))
        .snapshot(move || {
            run("systemctl show -p MainPID -p UnitFileState moorfast-conformance; getent passwd moorfast-conformance
                 grep -F /moorfast-conformance /proc/self/mountinfo | cut -d ' ' -f 4-6; cat /etc/fstab; nft -s list ruleset")
        })
        .disturb(move || _ = disturb("systemctl stop moorfast-conformance; umount /moorfast-conformance; nft add chain inet moorfast-conformance more"));
    keeps_the_laws(&case).await;
}

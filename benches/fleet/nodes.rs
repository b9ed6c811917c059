//! Work on nodes, over ssh.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::peers;
use crate::support::folder::Folder;
use crate::support::proxy::Proxy;
use crate::support::testbed::{Node, Testbed};
use crate::table::{Table, time};

/// The floor of a look at files: one connection and one process for all of them, on all nodes at the same time.
const ONE_LOOK: &str = "one ssh with one stat and one sha256sum for each node, side by side";
/// The floor of the same on this machine.
const ONE_LOCAL_LOOK: &str = "one stat and one sha256sum";
/// The floor of a first apply of files.
const ONE_BATCH: &str = "one ssh with a hand-written script: staged, chmod, chown, sync, mv";

/// The most nodes that a row uses.
pub const NODES: usize = 40;
/// The row with the most nodes.
pub const MANY_NODES: &str = "plan of 40 nodes × 50 unchanged files";
/// A plan by a peer takes about 0.05 s a file, so that it measures only a row with few of them.
const FILES_OF_PEERS: usize = 150;

pub fn measure(testbed: &Testbed, table: &mut Table) {
    local_look(table, "plan of 50 unchanged files on this machine", 50);
    look(testbed, table, "plan of 3 nodes × 50 unchanged files", 3, 50);
    look(testbed, table, MANY_NODES, NODES, 50);
    look(testbed, table, "plan of 1 node × 1,000 unchanged files", 1, 1_000);
    look(testbed, table, "plan of 1 node × 10,000 unchanged files", 1, 10_000);
    first_look(testbed, table, "first plan of 10,000 new files", 10_000);
    first_apply(testbed, table, "first apply of 1,000 small files", 1_000);
    slow_look(testbed, table, "plan of 50 unchanged files, 50 ms round trip", 50);
    large_file(testbed, table, "first apply of a 200 MB file to 3 nodes");
}

/// Returns a manifest of `files` small files on each of the nodes, which are reached at `port`.
fn manifest(testbed: &Testbed, nodes: &[Node], port: Option<u16>, files: usize) -> String {
    let identity = testbed.facts.ssh.identity_file.display();
    let block = |node: &Node| {
        let place = match port {
            Some(port) => format!("address = \"127.0.0.1\"\nport = {port}"),
            None => format!("address = \"{}\"", node.address),
        };
        format!(
            "[nodes.{}]\n{place}\nuser = \"root\"\nidentity_file = \"{identity}\"\nhost_key = \"{}\"\nroles = [\"bench\"]\n\n",
            node.name,
            node.pin()
        )
    };
    nodes.iter().map(block).collect::<String>() + &resources(peers::DIRECTORY, files)
}

/// Returns `files` small files in a directory, on the nodes with the role `bench`.
fn resources(directory: &str, files: usize) -> String {
    let keys: Vec<_> = (0..files).map(|file| file.to_string()).collect();
    format!(
        "[resource.ssh_directory.bench]\non = {{ role = \"bench\" }}\npath = \"{directory}\"\n\n[resource.ssh_file.bench]\non = {{ role = \"bench\" }}\nfor_each = {keys:?}\n\
         path = \"${{ssh_directory.bench.path}}/f${{each.key}}\"\ncontent = \"This is file ${{each.key}}.\\n\"\n"
    )
}

/// Returns shell that reads the files in a directory.
fn look_script(directory: &str) -> String {
    format!("cd {directory} && ls | xargs stat --format=%A%U%G%s >/dev/null && ls | xargs sha256sum >/dev/null")
}

fn local_look(table: &mut Table, work: &str, files: usize) {
    if !table.selects(work) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("files").display().to_string();
    let node = "[nodes.here]\naddress = \"127.0.0.1\"\ntransport = \"local\"\nroles = [\"bench\"]\n\n";
    let folder = Folder::new(&(node.to_owned() + &resources(&directory, files)));
    folder.expect(0, &["apply", "--auto-approve"]);
    let plan = || _ = folder.expect(0, &["plan"]).says("No changes");
    let mut look = Command::new("sh");
    look.arg("-c").arg(look_script(&directory));
    table.compare(work, plan, ONE_LOCAL_LOOK, || assert!(look.status().unwrap().success()));
    peers::look_here(table, &folder, &directory, files);
}

fn look(testbed: &Testbed, table: &mut Table, work: &str, nodes: usize, files: usize) {
    if !table.selects(work) {
        return;
    }
    let nodes = &testbed.facts.nodes[..nodes];
    let folder = Folder::new(&manifest(testbed, nodes, None, files));
    folder.expect(0, &["apply", "--auto-approve"]);
    let plan = || _ = folder.expect(0, &["plan"]).says("No changes");
    let script = look_script(peers::DIRECTORY);
    table.compare(work, plan, ONE_LOOK, || side_by_side(nodes.iter().map(|node| ssh(testbed, node, &script))));
    if nodes.len() * files <= FILES_OF_PEERS {
        peers::look(table, &folder, testbed, nodes, files);
    }
    folder.expect(0, &["destroy", "--auto-approve"]);
}

/// Measures a plan that creates everything. It reads less than a plan without changes, but it shows all files.
fn first_look(testbed: &Testbed, table: &mut Table, work: &str, files: usize) {
    if !table.selects(work) {
        return;
    }
    let folder = Folder::new(&manifest(testbed, &testbed.facts.nodes[..1], None, files));
    let plan = || _ = folder.expect(0, &["plan"]);
    let first = time(plan);
    folder.expect(0, &["apply", "--auto-approve"]);
    table.add(work, first, "the plan of the same files, unchanged", time(plan));
    folder.expect(0, &["destroy", "--auto-approve"]);
}

fn slow_look(testbed: &Testbed, table: &mut Table, work: &str, files: usize) {
    if !table.selects(work) {
        return;
    }
    let node = &testbed.facts.nodes[0];
    let Proxy { port, .. } = Proxy::start(format!("{}:22", node.address), Duration::from_millis(50));
    let folder = Folder::new(&manifest(testbed, std::slice::from_ref(node), Some(port), files));
    folder.expect(0, &["apply", "--auto-approve"]);
    let floor = || {
        let mut ssh = connection("ssh", testbed);
        ssh.args(["-p", &port.to_string(), "root@127.0.0.1", "true"]);
        side_by_side([ssh]);
    };
    let plan = || _ = folder.expect(0, &["plan"]).says("No changes");
    table.compare(work, plan, "one ssh that runs `true`", floor);
    folder.expect(0, &["destroy", "--auto-approve"]);
}

fn first_apply(testbed: &Testbed, table: &mut Table, work: &str, files: usize) {
    let node = &testbed.facts.nodes[0];
    let folder = Folder::new(&manifest(testbed, std::slice::from_ref(node), None, files));
    let script = format!(
        "rm -rf /srv/floor && mkdir -p /srv/floor && staging=$(mktemp -d -p /srv/floor) && i=0 && while [ $i -lt {files} ]; do \
         printf 'This is file %s.\\n' $i >$staging/f$i; i=$((i + 1)); done && chmod 0644 $staging/* && chown 0:0 $staging/* && sync $staging/* && \
         mv -f -t /srv/floor $staging/* && rmdir $staging && sync /srv/floor"
    );
    let apply = || {
        testbed.on(&node.name, "rm -rf /srv/bench");
        let _ = std::fs::remove_dir_all(folder.path(".moorfast"));
        folder.expect(0, &["apply", "--auto-approve"]);
    };
    table.compare(work, apply, ONE_BATCH, || side_by_side([ssh(testbed, node, &script)]));
    if table.selects(work) {
        folder.expect(0, &["destroy", "--auto-approve"]);
    }
}

fn large_file(testbed: &Testbed, table: &mut Table, work: &str) {
    if !table.selects(work) {
        return;
    }
    let nodes = &testbed.facts.nodes[..3];
    let folder = Folder::new(&manifest(testbed, nodes, None, 0));
    let mut file = std::fs::File::create(folder.path("large")).unwrap();
    let block: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    (0..200).for_each(|_| file.write_all(&block).unwrap());
    let large = "\n[resource.ssh_file.large]\non = { role = \"bench\" }\npath = \"/data/large\"\nsource = \"large\"\n";
    folder.write("large.toml", large);
    let moorfast = time(|| _ = folder.expect(0, &["apply", "--auto-approve"]));
    let copy = |node: &Node| {
        let mut scp = connection("scp", testbed);
        scp.arg(folder.path("large")).arg(format!("root@{}:/data/copy", node.address));
        scp
    };
    table.add(work, moorfast, "scp to each node, side by side", time(|| side_by_side(nodes.iter().map(copy))));
    folder.expect(0, &["destroy", "--auto-approve"]);
}

/// Returns a command that runs a script as root on the node.
fn ssh(testbed: &Testbed, node: &Node, script: &str) -> Command {
    let mut ssh = connection("ssh", testbed);
    ssh.arg(format!("root@{}", node.address)).arg(script);
    ssh
}

fn connection(program: &str, testbed: &Testbed) -> Command {
    let known_hosts = testbed.facts.state.join("ssh/known_hosts");
    let mut command = Command::new(program);
    command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o"]);
    command
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
        .arg("-i")
        .arg(&testbed.facts.ssh.identity_file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs the commands at the same time, to their ends.
fn side_by_side(commands: impl IntoIterator<Item = Command>) {
    let started: Vec<_> = commands.into_iter().map(|mut command| command.spawn().unwrap()).collect();
    for mut child in started {
        assert!(child.wait().unwrap().success(), "the floor failed");
    }
}

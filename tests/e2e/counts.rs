//! What moorfast needs for its work: connections, commands and bytes to a node, and requests to the API server.
//!
//! Unlike times, these counts do not depend on the machine, so a limit that is exceeded means that a change made moorfast slower.
//! `providers/ssh/tests/local.rs` counts the processes on a node in the same way, and `benches/run` measures times.

use std::fmt;
use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::proxy::Proxy;
use crate::support::testbed::Testbed;

/// The counts of one command.
#[derive(Debug, PartialEq, PartialOrd)]
struct Counts {
    connections: u64,
    execs: u64,
    kilobytes: u64,
    requests: u64,
}

impl Counts {
    /// Runs a command and counts what it needs.
    fn of(folder: &Folder, proxy: &Proxy, arguments: &[&str]) -> Self {
        proxy.take();
        let run = folder.expect(0, arguments);
        let passed = proxy.take();
        Self {
            connections: passed.connections,
            execs: statistic(&run, "ssh exec"),
            kilobytes: passed.bytes.div_ceil(1000),
            requests: statistic(&run, "api request"),
        }
    }

    fn is_within(&self, limit: &Self) -> bool {
        let Self { connections, execs, kilobytes, requests } = limit;
        self.connections <= *connections
            && self.execs <= *execs
            && self.kilobytes <= *kilobytes
            && self.requests <= *requests
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, execs, kilobytes, requests } = self;
        write!(f, "{connections} connections, {execs} execs, {kilobytes} kB, {requests} API requests")
    }
}

/// Returns a number of the statistics that a command prints, such as `2 ssh execs`.
fn statistic(run: &Run, what: &str) -> u64 {
    let lines = run.stdout.lines().chain(run.stderr.lines()).filter(|line| line.contains("in "));
    let parts = lines.flat_map(|line| line.split(", "));
    let mut counts = parts
        .filter_map(|part| part.split_once(' '))
        .filter(|(_, name)| name.trim_end_matches('.').trim_end_matches('s') == what);
    counts.next().map_or(0, |(count, _)| count.parse().unwrap())
}

/// Returns a manifest of 500 files, five users and groups and a kernel parameter on a node, and of 200 objects in a namespace.
fn manifest(testbed: &Testbed, port: u16) -> String {
    let node = &testbed.facts.nodes[0];
    let objects = "for_each = \"${range(100)}\"\nmanifest = { apiVersion = \"v1\", metadata = { name = \"c${each.key}\", namespace = \"counts\" }";
    format!(
        r#"
[nodes.a]
address = "127.0.0.1"
port = {port}
user = "root"
identity_file = "{identity}"
host_key = "{pin}"

{cluster}

[resource.ssh_directory.d]
on = "a"
path = "/srv/counts"

[resource.ssh_file.f]
on = "a"
for_each = "${{range(500)}}"
path = "${{ssh_directory.d.path}}/f${{each.key}}"
content = "This is file ${{each.key}}.\n"
owner = "root"

[resource.ssh_user.u]
on = "a"
for_each = ["one", "two", "three", "four", "five"]
name = "counted-${{each.key}}"
groups = ["${{ssh_group.g[each.key].name}}"]

[resource.ssh_group.g]
on = "a"
for_each = ["one", "two", "three", "four", "five"]
name = "counted-g-${{each.key}}"

[resource.ssh_sysctl.s]
on = "a"
name = "net.ipv4.ip_forward"
value = "1"

[resource.kubernetes_object.namespace]
manifest = {{ apiVersion = "v1", kind = "Namespace", metadata = {{ name = "counts" }} }}

[resource.kubernetes_object.config]
{objects}, kind = "ConfigMap", data = {{ a = "${{each.key}}" }} }}

[resource.kubernetes_object.account]
{objects}, kind = "ServiceAccount" }}
"#,
        identity = testbed.facts.ssh.identity_file.display(),
        pin = node.pin(),
        cluster = testbed.facts.cluster_block(),
    )
}

#[test]
fn work_needs_few_connections_commands_bytes_and_requests() {
    let Some(testbed) = Testbed::up("counts", 1) else { return };
    let proxy = Proxy::start(format!("{}:22", testbed.facts.nodes[0].address), Duration::ZERO);
    let folder = Folder::new(&manifest(&testbed, proxy.port));
    let works: &[(&str, &[&str], Counts)] = &[
        (
            "first apply",
            &["apply", "--auto-approve"],
            Counts { connections: 1, execs: 5, kilobytes: 320, requests: 215 },
        ),
        ("plan without changes", &["plan"], Counts { connections: 1, execs: 1, kilobytes: 170, requests: 8 }),
        // A drift check prints no statistics.
        ("drift", &["drift"], Counts { connections: 1, execs: 0, kilobytes: 170, requests: 0 }),
        ("destroy", &["destroy", "--auto-approve"], Counts { connections: 1, execs: 5, kilobytes: 350, requests: 215 }),
    ];
    let mut exceeded = Vec::new();
    for (work, arguments, limit) in works {
        let counts = Counts::of(&folder, &proxy, arguments);
        eprintln!("{work}: {counts}");
        if !counts.is_within(limit) {
            exceeded.push(format!("{work} needs {counts}, at most {limit} are expected"));
        }
    }
    assert!(exceeded.is_empty(), "{}", exceeded.join("\n"));
}

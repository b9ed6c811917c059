//! Probes of checks that nodes send: HTTP, TCP, DNS and ping.

use std::process::Command;

use serde_json::Value as Json;

use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;

/// A web server that only its own node can reach, and a probe of it. systemd starts one shell for each connection.
const SITE: &str = r#"
[resource.ssh_systemd_unit.socket]
on         = "all"
name       = "probed.socket"
content    = """
[Socket]
ListenStream=127.0.0.1:8081
Accept=yes
"""
state      = "running"
depends_on = ["ssh_systemd_unit.answer"]

[resource.ssh_systemd_unit.answer]
on      = "all"
name    = "probed@.service"
content = """
[Service]
StandardInput=socket
ExecStart=/bin/sh -c 'read -r line; printf "HTTP/1.0 200 OK\\r\\n\\r\\nthis is %H"'
"""

[check.web]
on     = "all"
from   = "all"
http   = { url = "http://127.0.0.1:8081/", retry_for = "10s" }
assert = [{ condition = '${startswith(self.body, "this is ")}', error_message = "Another server answers." }]

[check.ssh]
on   = "all"
from = "all"
tcp  = { address = "${node.address}:22" }

[check.hosts]
from   = "all"
dns    = { name = "localhost" }
assert = [{ condition = '${contains(self.addresses, "127.0.0.1") || contains(self.addresses, "::1")}', error_message = "Another address." }]
"#;

#[test]
fn nodes_send_probes_over_the_connection_that_they_have() {
    let Some(testbed) = Testbed::up("probes", 2) else { return };
    let [first, second] = [0, 1].map(|place| testbed.facts.nodes[place].name.as_str());
    let nodes: String = testbed.facts.nodes.iter().map(|node| testbed.facts.node_block(node, "root")).collect();
    let folder = Folder::new(&format!("{nodes}{}{SITE}", api(&testbed)));

    let applied = folder.expect(0, &["apply", "-auto-approve"]);
    applied.says("2 ssh connections");
    let plan = folder.expect(0, &["plan", "--json"]);
    for (name, status) in statuses(&plan) {
        assert_eq!(status, "pass", "{name}: {}", plan.stdout);
    }

    // A failure names the node that sent the probe, and why there is no answer.
    testbed.on(second, "systemctl stop probed.socket");
    folder.write(
        "more.toml",
        r#"
[check.closed]
from = "all"
tcp  = { address = "127.0.0.1:1" }

[check.silent]
from = "all"
tcp  = { address = "192.0.2.1:80", timeout = "1s" }

[check.unknown]
from = "all"
dns  = { name = "nothing.invalid", server = "127.0.0.1:1", timeout = "2s" }

[check.ping]
from = "all"
ping = { address = "127.0.0.1" }
"#,
    );
    let plan = folder.expect(0, &["plan", "--json"]);
    for (name, status, reason) in [
        ("closed", "fail", "no connection to 127.0.0.1:1: Connection refused"),
        ("silent", "fail", "no connection to 192.0.2.1:80: no answer within 1s"),
        ("unknown", "fail", "no address of nothing.invalid: Connection refused"),
        ("ping", "error", "cannot send the probe: ping is not installed"),
    ] {
        assert_eq!(statuses(&plan)[&format!("check.{name}")], status, "{}", plan.stdout);
        for node in [first, second] {
            let messages = messages(&plan, &format!("check.{name}"));
            assert!(
                messages.iter().any(|m| m.starts_with(&format!("from {node}: ")) && m.contains(reason)),
                "{messages:?}"
            );
        }
    }
    let web = messages(&plan, &format!("check.web[\"{first}\"]"));
    let refused = format!("from {second}: no answer from http://127.0.0.1:8081/: Connection refused");
    assert_eq!(web, [refused]);
}

#[test]
fn a_local_node_sends_probes_from_this_machine() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let has_ping = Command::new("ping").arg("-V").output().is_ok();
    let folder = Folder::new(&format!(
        r#"
[nodes.here]
transport = "local"

[check.open]
from = "here"
tcp  = {{ address = "{address}" }}

[check.name]
from = "here"
dns  = {{ name = "localhost", expect = ["192.0.2.1"] }}

[check.ping]
from = "here"
ping = {{ address = "127.0.0.1" }}
"#
    ));
    let plan = folder.expect(0, &["plan", "--json"]);
    let statuses = statuses(&plan);
    assert_eq!(statuses["check.open"], "pass", "{}", plan.stdout);
    assert_eq!(statuses["check.name"], "fail", "{}", plan.stdout);
    assert!(messages(&plan, "check.name")[0].ends_with(", expected 192.0.2.1"), "{}", plan.stdout);
    assert_eq!(statuses["check.ping"], if has_ping { "pass" } else { "error" }, "{}", plan.stdout);
    folder.expect(1, &["plan", "--untrusted"]).complains("the check `open` is not allowed");
}

/// Returns a check that nodes reach the API server, with a client certificate of this machine.
fn api(testbed: &Testbed) -> String {
    let plane = &testbed.facts.control_plane;
    let (server, ca) = (&plane.server, plane.ca.display());
    let (certificate, key) = (plane.admin.cert.display(), plane.admin.key.display());
    format!(
        r#"
[check.api]
from = "all"
http = {{ url = "{server}/readyz", ca = '${{file("{ca}")}}', client_certificate = '${{file("{certificate}")}}', client_key = '${{file("{key}")}}', expect_body = "^ok$" }}
"#
    )
}

fn checks(run: &Run) -> Vec<Json> {
    let plan: Json = serde_json::from_str(&run.stdout).unwrap();
    plan["checks"].as_array().unwrap().clone()
}

fn statuses(run: &Run) -> std::collections::BTreeMap<String, String> {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    checks(run).iter().map(|check| (text(&check["address"]), text(&check["status"]))).collect()
}

fn messages(run: &Run, name: &str) -> Vec<String> {
    let check = checks(run).into_iter().find(|check| check["address"] == name).unwrap();
    check["problems"].as_array().unwrap().iter().map(|message| message.as_str().unwrap().to_owned()).collect()
}

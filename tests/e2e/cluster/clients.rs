//! Clients of the cluster, which ask all the time while something changes.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::prober::{Request, while_available};
use super::site::Site;
use super::workload::{BUDGET, NODE_PORT};
use crate::support::testbed::{Node, Ssh};
use crate::support::wait_for;

const MINUTE: Duration = Duration::from_secs(60);

/// The port of a machine's load balancer, and that of the demo on each machine.
const LOAD_BALANCER: u16 = 8443;
const DEMO: u16 = 30080;

/// The ServiceAccount of the client that asks the API servers. It may read: to administrators, an API server answers before it knows the permissions of others.
const ACCOUNT: &str = "reader";

impl Site {
    /// Runs `change` while clients ask the API servers through the load balancer of `node`, and the demo and the workload at their ports of `node`. Asserts that no
    /// request failed, and that never fewer pods of the workload were healthy than its budget demands.
    pub fn without_an_outage<T>(&self, node: &Node, change: impl FnOnce() -> T) -> T {
        self.while_clients_ask(node, true, change)
    }

    /// Does the same without requests to pods: when a machine leaves, they can reach one that has just ended with it.
    pub fn without_an_outage_of_the_api_servers<T>(&self, node: &Node, change: impl FnOnce() -> T) -> T {
        self.while_clients_ask(node, false, change)
    }

    fn while_clients_ask<T>(&self, node: &Node, asks_pods: bool, change: impl FnOnce() -> T) -> T {
        let client = Client::on(self, node);
        let reads = || client.get("/api/v1/namespaces/default").map(drop);
        wait_for("an answer to the client of the API servers", MINUTE, || reads().ok());
        let requests: [Request<'_>; 4] = [
            ("the API servers", &reads),
            ("the budget of the workload", &|| client.sees_budget_kept()),
            ("the workload", &|| client.asks(NODE_PORT)),
            ("the demo", &|| client.asks(DEMO)),
        ];
        while_available(if asks_pods { &requests } else { &requests[..2] }, change)
    }

    /// Creates the ServiceAccount, and returns the file with the options of curl that log in as it.
    fn credentials_of_reader(&self) -> String {
        let metadata = json!({ "name": ACCOUNT, "namespace": "default" });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": ACCOUNT },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default" }],
        });
        self.kubectl_apply(&[account, binding]);
        let token = self.kubectl(&["create", "token", ACCOUNT, "--duration", "2h"]);
        let ca = self.testbed.on(&self.control_planes()[0].name, "cat /etc/kubernetes/cert/ca.pem");
        self.moorfast.write("reader/ca.pem", &ca);
        let ca = self.moorfast.path("reader/ca.pem");
        let options = format!("cacert = \"{}\"\nheader = \"Authorization: Bearer {}\"\n", ca.display(), token.trim());
        self.moorfast.write("reader/curl.conf", &options);
        self.moorfast.path("reader/curl.conf").display().to_string()
    }
}

/// A client on a machine. Each request has a connection of its own.
struct Client {
    address: String,
    tunnel: Tunnel,
    credentials: String,
}

impl Client {
    fn on(site: &Site, node: &Node) -> Self {
        let tunnel = Tunnel::open(&site.testbed.facts.ssh, node);
        Self { address: node.address.clone(), tunnel, credentials: site.credentials_of_reader() }
    }

    /// Reads an object from an API server, through the load balancer.
    fn get(&self, path: &str) -> Result<Json, String> {
        let url = format!("https://127.0.0.1:{}{path}", self.tunnel.port);
        let object = curl(&["--config", &self.credentials, &url])?;
        serde_json::from_str(&object).map_err(|error| format!("{error}: {object}"))
    }

    /// Sends a request to a port of the machine.
    fn asks(&self, port: u16) -> Result<(), String> {
        curl(&[&format!("http://{}:{port}/", self.address)]).map(drop)
    }

    fn sees_budget_kept(&self) -> Result<(), String> {
        let status = self.get(BUDGET)?["status"].take();
        let is_kept = status["currentHealthy"].as_u64() >= status["desiredHealthy"].as_u64();
        if is_kept && status["desiredHealthy"] != 0 { Ok(()) } else { Err(status.to_string()) }
    }
}

/// Runs curl and returns the body of the response. Only the status 200 is a success.
fn curl(arguments: &[&str]) -> Result<String, String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"]).args(arguments);
    let output = curl.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.strip_suffix("\n200") {
        Some(body) if output.status.success() => Ok(body.to_owned()),
        _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// An ssh connection that forwards a port of this machine to the load balancer of a node.
struct Tunnel {
    ssh: Child,
    port: u16,
}

impl Tunnel {
    fn open(ssh: &Ssh, node: &Node) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("ssh");
        command
            .args(["-N", "-L", &format!("127.0.0.1:{port}:127.0.0.1:{LOAD_BALANCER}"), "-i"])
            .arg(&ssh.identity_file);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", ssh.known_hosts.display()));
        let ssh = command
            .args(["-o", "BatchMode=yes", &format!("root@{}", node.address)])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let tunnel = Self { ssh, port };
        wait_for("the tunnel to the load balancer", MINUTE, || TcpStream::connect(("127.0.0.1", port)).ok());
        tunnel
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        _ = self.ssh.kill();
        _ = self.ssh.wait();
    }
}

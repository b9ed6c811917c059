//! The resource types keep the laws of a provider, on a real etcd.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moorfast_conformance::{Case, check};
use moorfast_engine::provider::Provider;
use moorfast_etcd::EtcdProvider;
use moorfast_ssh::SshProvider;
use serde_json::Value as Json;

/// An etcd with one member.
struct Etcd {
    process: Child,
    peer_port: u16,
    client_port: u16,
    _data: tempfile::TempDir,
}

impl Etcd {
    /// Starts the etcd of the testbed. Without a testbed, prints why the test is skipped and returns `None`.
    fn start() -> Option<Self> {
        let Some(path) = std::env::var_os("MOORFAST_TESTBED_JSON") else {
            println!("skipped: MOORFAST_TESTBED_JSON names no testbed");
            return None;
        };
        let testbed: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let program = testbed["control_plane"]["binaries"]["etcd"].as_str().unwrap();
        let (peer_port, client_port, data) = (free_port(), free_port(), tempfile::tempdir().unwrap());
        let (peer, client) = (url(peer_port), url(client_port));
        let process = Command::new(program)
            .args(["--name", "one", "--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync"])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .arg("--data-dir")
            .arg(data.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { process, peer_port, client_port, _data: data };
        etcd.wait_until_healthy();
        Some(etcd)
    }

    fn wait_until_healthy(&self) {
        let started = Instant::now();
        while !self.health().contains(r#""health":"true""#) {
            assert!(started.elapsed() < Duration::from_secs(60), "etcd does not become healthy: {}", self.health());
            std::thread::yield_now();
        }
    }

    fn health(&self) -> String {
        let mut answer = String::new();
        if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.client_port)) {
            _ = connection.write_all(b"GET /health HTTP/1.0\r\n\r\n");
            _ = connection.read_to_string(&mut answer);
        }
        answer
    }

    /// Returns the configuration of the provider, with two members that do not exist yet.
    fn configuration(&self) -> String {
        let member = |name: &str, peer: u16, client: u16| {
            format!("members.{name} = {{ peer_url = \"{}\", client_url = \"{}\" }}\n", url(peer), url(client))
        };
        let own = member("one", self.peer_port, self.client_port);
        let others = [member("two", free_port(), free_port()), member("three", free_port(), free_port())];
        format!("[nodes.here]\ntransport = \"local\"\nsudo = false\n[providers.etcd]\n{own}{}", others.concat())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

async fn keeps_the_laws(case: &Case) {
    let providers: [Arc<dyn Provider>; 2] = [Arc::new(EtcdProvider), Arc::new(SshProvider)];
    check(&providers, case).await.unwrap();
}

#[tokio::test]
async fn a_member() {
    let Some(etcd) = Etcd::start() else { return };
    let configuration = etcd.configuration();
    let member = |attributes: &str| format!("{configuration}[resource.etcd_member.it]\non = \"here\"\n{attributes}\n");
    let case = Case::new(member("name = \"two\"")).update(member("name = \"three\"")).reject(member(""), "name");
    keeps_the_laws(&case).await;
}

#[tokio::test]
async fn a_snapshot() {
    let Some(etcd) = Etcd::start() else { return };
    let (configuration, folder) = (etcd.configuration(), tempfile::tempdir().unwrap());
    let place = folder.path().join("backup");
    let manifest = |attributes: &str| {
        let directory = format!("directory = {:?}", place.display().to_string());
        format!("{configuration}[resource.etcd_snapshot.it]\n{directory}\n{attributes}\n")
    };
    let (seen, lost) = (place.clone(), place.clone());
    let case = Case::new(manifest(""))
        .update(manifest("triggers = { release = \"2\" }"))
        .reject(format!("{configuration}[resource.etcd_snapshot.it]\ntriggers = {{}}\n"), "directory")
        .snapshot(move || format!("{:?}", files(&seen)))
        .disturb(move || files(&lost).iter().for_each(|file| std::fs::remove_file(file).unwrap()))
        .without_import();
    keeps_the_laws(&case).await;
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

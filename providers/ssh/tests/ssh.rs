//! The ssh transport against a real sshd on a loopback port. Needs root and sshd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{World, attributes, local_node};
use moorfast_engine::model::{Attributes, Node, NodeName, Transport, Value};
use moorfast_engine::provider::{Class, HostKeys, ProviderError};
use moorfast_ssh::SshProvider;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// An sshd with its own keys, and a client key that it accepts.
struct Sshd {
    dir: TempDir,
    port: u16,
    process: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(status.success());
}

/// Returns a port without a listener. The socket that reserves it never listens and may be shared: a child that another thread forks at that moment inherits it,
/// but neither answers on the port nor keeps sshd from it.
fn free_port() -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.local_addr().unwrap().port()
}

impl Sshd {
    /// Returns a running sshd, or prints why it cannot run.
    fn start(extra: &str) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() || !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: this test needs root and /usr/sbin/sshd");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        keygen(&dir.path().join("host_key"));
        keygen(&dir.path().join("client_key"));
        fs::copy(dir.path().join("client_key.pub"), dir.path().join("authorized_keys")).unwrap();
        fs::write(dir.path().join("ssh_config"), format!("IdentityFile {}\n", dir.path().join("client_key").display()))
            .unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let port = free_port();
        let process = Self::serve(dir.path(), port, extra);
        Some(Self { dir, port, process })
    }

    fn serve(dir: &Path, port: u16, extra: &str) -> Child {
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\nLogLevel VERBOSE\n{extra}",
            dir.display()
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stderr(fs::File::options().create(true).append(true).open(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !Self::answers(port) {
            assert!(Instant::now() < deadline, "sshd did not start");
            std::thread::yield_now();
        }
        process
    }

    /// Whether sshd answers. It logs a connection before it answers.
    fn answers(port: u16) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut start = [0; 4];
        stream.read_exact(&mut start).is_ok() && start == *b"SSH-"
    }

    fn rekey(&mut self) {
        fs::remove_file(self.dir.path().join("host_key")).unwrap();
        keygen(&self.dir.path().join("host_key"));
        self.restart("");
    }

    fn restart(&mut self, extra: &str) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::serve(self.dir.path(), self.port, extra);
    }

    /// Returns the number of connections so far, with and without a login.
    fn connections(&self) -> usize {
        fs::read_to_string(self.path("log")).unwrap().matches("Connection from").count()
    }

    fn node(&self) -> Node {
        Node {
            name: NodeName("gpu01".to_owned()),
            address: "127.0.0.1".to_owned(),
            port: Some(self.port),
            user: Some("root".to_owned()),
            identity_file: Some(self.path("client_key")),
            transport: Transport::Ssh,
            sudo: true,
            ..local_node()
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn public_key(&self) -> String {
        fs::read_to_string(self.path("host_key.pub")).unwrap()
    }

    async fn world(&self, node: Node) -> World {
        let config = json!({ "config_file": self.path("ssh_config"), "connect_timeout": "5s" });
        World::configured(node, &self.root(), config).await
    }

    fn config(&self) -> Attributes {
        attributes(json!({ "config_file": self.path("ssh_config") }))
    }

    async fn trust(&self, node: &Node) -> Vec<String> {
        SshProvider.trust(node, &self.config(), &self.root(), &self.data_dir()).await.unwrap()
    }

    /// Returns the known host keys of a node.
    fn known(&self, node: &Node) -> Vec<String> {
        SshProvider.known(node, &self.data_dir()).unwrap()
    }

    /// Returns a manifest folder whose name contains special characters of ssh_config.
    fn root(&self) -> PathBuf {
        let root = self.dir.path().join("100% odd %h root");
        fs::create_dir_all(&root).unwrap();
        root
    }

    fn data_dir(&self) -> PathBuf {
        self.root().join(".moorfast")
    }

    async fn failure(&self, node: Node) -> ProviderError {
        let world = self.world(node).await;
        let path = self.dir.path().join("x");
        world.read("ssh_file", Some(attributes(json!({ "path": path, "content": "" })))).await.unwrap_err()
    }
}

fn shown(error: &ProviderError, sshd: &Sshd) -> String {
    let text = format!("{:?}: {}\nhelp: {}", error.class, error.summary, error.help.as_deref().unwrap_or("none"));
    let text = text.replace(&sshd.port.to_string(), "PORT");
    regex::Regex::new("SHA256:[A-Za-z0-9+/]+").unwrap().replace_all(&text, "SHA256:…").into_owned()
}

#[tokio::test]
async fn first_contact_trust_and_a_changed_key() {
    let Some(mut sshd) = Sshd::start("") else { return };
    let node = sshd.node();
    insta::assert_snapshot!(shown(&sshd.failure(node.clone()).await, &sshd), @r#"
    Identity: the host key of gpu01 (127.0.0.1 port PORT) is not known yet
    help: trust it with: moorfast node trust gpu01 (or pin it with host_key in [nodes.gpu01])
    "#);
    assert!(sshd.known(&node).is_empty());

    let prints = sshd.trust(&node).await;
    assert_eq!(prints.len(), 1);
    assert_eq!(sshd.known(&node), prints);
    let world = sshd.world(node.clone()).await;
    let path = sshd.dir.path().join("motd");
    world.apply("ssh_file", attributes(json!({ "path": path, "content": "hello" }))).await.unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "hello");
    let connections = world.connection.statistics()[0];
    assert_eq!(connections, ("ssh connections", 1));
    world.connection.close().await;

    sshd.rekey();
    let changed = sshd.failure(node.clone()).await;
    insta::assert_snapshot!(shown(&changed, &sshd), @r#"
    Identity: the host key of gpu01 (127.0.0.1 port PORT) has changed (now SHA256:…)
    help: if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then run: moorfast node trust gpu01
    "#);
    assert!(SshProvider.forget(&node, &sshd.data_dir()).unwrap());
    assert!(!SshProvider.forget(&node, &sshd.data_dir()).unwrap());
    assert_eq!(sshd.failure(node).await.class, Class::Identity);
}

#[tokio::test]
async fn pinned_keys_decide() {
    let Some(sshd) = Sshd::start("") else { return };
    let pinned = |pin: String| Node { host_keys: vec![pin], ..sshd.node() };
    let desired = || attributes(json!({ "path": sshd.path("none"), "content": "" }));
    let read = async |node: Node| sshd.world(node).await.read("ssh_file", Some(desired())).await;
    assert_eq!(read(pinned(sshd.public_key())).await, Ok(None));
    let print = sshd.known(&pinned(sshd.public_key())).remove(0);
    assert_eq!(read(pinned(print)).await, Ok(None));

    let other = fs::read_to_string(sshd.path("client_key.pub")).unwrap();
    let other_print = sshd.known(&pinned(other.clone())).remove(0);
    insta::assert_snapshot!(shown(&read(pinned(other)).await.unwrap_err(), &sshd), @r#"
    Identity: the host key of gpu01 (127.0.0.1 port PORT) has changed (now SHA256:…)
    help: if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then set host_key to it
    "#);
    insta::assert_snapshot!(shown(&read(pinned(other_print)).await.unwrap_err(), &sshd), @r#"
    Identity: the host key of gpu01 is not the pinned one
    help: if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then set host_key to it
    "#);
    insta::assert_snapshot!(shown(&read(pinned("nonsense".to_owned())).await.unwrap_err(), &sshd), @r#"
    Invalid: a pinned host key of gpu01 is neither a public key nor a fingerprint
    help: write `ssh-ed25519 AAAA…` or `SHA256:…`
    "#);
}

#[tokio::test]
async fn a_pinned_fingerprint_takes_no_connection_of_its_own() {
    let Some(mut sshd) = Sshd::start("") else { return };
    let ecdsa = sshd.path("ecdsa_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f", &ecdsa]).status().unwrap();
    assert!(made.success());
    sshd.restart(&format!("HostKey {ecdsa}\n"));
    fs::create_dir_all(sshd.data_dir()).unwrap();
    let print = |key: String| sshd.known(&Node { host_keys: vec![key], ..sshd.node() }).remove(0);
    let of_another_type = print(fs::read_to_string(sshd.path("ecdsa_key.pub")).unwrap());
    let desired = || attributes(json!({ "path": sshd.path("none"), "content": "" }));
    let connections = async |pin: &String| {
        let before = sshd.connections();
        let world = sshd.world(Node { host_keys: vec![pin.clone()], ..sshd.node() }).await;
        assert_eq!(world.read("ssh_file", Some(desired())).await, Ok(None));
        let identity = world.connection.identify(&world.target).await.unwrap().unwrap();
        assert_eq!(identity.machine.host_keys, std::slice::from_ref(pin));
        world.connection.close().await;
        sshd.connections() - before
    };
    assert_eq!(connections(&print(sshd.public_key())).await, 1);
    assert!(connections(&of_another_type).await > 1, "the node offers a key of another type first");
    assert_eq!(connections(&of_another_type).await, 1, "the type of the key is known now");
    assert!(sshd.known(&sshd.node()).is_empty(), "a key is trusted only as long as it is pinned");
}

#[tokio::test]
async fn errors_of_refused_and_unreachable_connections() {
    let Some(sshd) = Sshd::start("") else { return };
    let trusted = |node: Node| Node { host_keys: vec![sshd.public_key()], ..node };
    let foreign = sshd.root().join("foreign");
    keygen(&foreign);
    fs::write(sshd.path("ssh_config"), "").unwrap();
    let node = Node { identity_file: Some("foreign".to_owned()), ..trusted(sshd.node()) };
    insta::assert_snapshot!(shown(&sshd.failure(node).await, &sshd), @r#"
    Denied: cannot connect to gpu01 (127.0.0.1 port PORT): the key is refused
    help: check user and identity_file in the manifest, the keys that `ssh-add -l` lists, and authorized_keys on the node
    "#);

    let node = Node { port: Some(free_port()), ..trusted(sshd.node()) };
    let port = node.port.unwrap().to_string();
    insta::assert_snapshot!(shown(&sshd.failure(node).await, &sshd).replace(&port, "CLOSED"), @r#"
    Unreachable: cannot connect to gpu01 (127.0.0.1 port CLOSED): connection refused
    help: check that sshd runs on the node, and that the port is right
    "#);

    let node = Node { address: "no-such-host.invalid".to_owned(), ..trusted(sshd.node()) };
    insta::assert_snapshot!(shown(&sshd.failure(node).await, &sshd), @r#"
    Unreachable: cannot connect to gpu01 (no-such-host.invalid port PORT): the host name does not exist
    help: check the address of the node
    "#);
    let node = Node { address: "-oProxyCommand=evil".to_owned(), ..trusted(sshd.node()) };
    assert_eq!(sshd.failure(node).await.class, Class::Invalid);
}

#[tokio::test]
async fn connections_and_errors_through_a_jump_host() {
    let (Some(sshd), Some(hop)) = (Sshd::start(""), Sshd::start("")) else { return };
    let key = hop.path("client_key");
    fs::write(sshd.path("ssh_config"), format!("Host localhost\n  IdentityFile {key}\n")).unwrap();
    let node = Node { jump: vec![format!("root@localhost:{}", hop.port)], ..sshd.node() };
    let unknown = sshd.failure(node.clone()).await;
    insta::assert_snapshot!(shown(&unknown, &sshd).replace(&hop.port.to_string(), "HOP"), @r#"
    Identity: the host key of a jump host of gpu01 (127.0.0.1 port PORT through root@localhost:HOP) is not known yet
    help: trust it with: moorfast node trust gpu01 (or pin it with host_key in [nodes.gpu01])
    "#);

    sshd.trust(&node).await;
    let world = sshd.world(node.clone()).await;
    let path = sshd.dir.path().join("motd");
    world.apply("ssh_file", attributes(json!({ "path": path, "content": "hello" }))).await.unwrap();
    world.connection.close().await;

    let closed = free_port();
    let node = Node { port: Some(closed), ..node };
    let unreachable = sshd.failure(node.clone()).await;
    let text = shown(&unreachable, &sshd).replace(&hop.port.to_string(), "HOP").replace(&closed.to_string(), "CLOSED");
    insta::assert_snapshot!(text, @r#"
    Unreachable: cannot connect to gpu01 (127.0.0.1 port CLOSED through root@localhost:HOP): connection refused (from the jump host)
    help: check that sshd runs on the node, and that the port is right
    "#);
    fs::write(sshd.path("ssh_config"), "").unwrap();
    let node = Node { jump: vec![format!("root@localhost:{}", hop.port)], ..sshd.node() };
    fs::write(hop.path("authorized_keys"), "").unwrap();
    let refused = sshd.failure(node).await;
    insta::assert_snapshot!(shown(&refused, &sshd).replace(&hop.port.to_string(), "HOP"), @r#"
    Denied: cannot connect to gpu01 (127.0.0.1 port PORT through root@localhost:HOP): the key is refused (at a jump host)
    help: check user and identity_file in the manifest, the keys that `ssh-add -l` lists, and authorized_keys on the node
    "#);
}

#[tokio::test]
async fn many_commands_and_a_big_upload_share_one_connection() {
    let Some(sshd) = Sshd::start("") else { return };
    let node = Node { host_keys: vec![sshd.public_key()], ..sshd.node() };
    let world = sshd.world(node).await;
    let commands: Vec<_> = (0..20)
        .map(|i| common::create("ssh_exec", json!({ "command": ["sh", "-c", format!("echo {i}; echo noise >&2")] })))
        .map(|action| world.operation("ssh_exec", action, None, Vec::new()))
        .collect();
    let outcomes = world.operate_all(&commands).await;
    for (i, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap().attributes["stdout"], Value::from(format!("{i}\n")));
    }
    let bytes: Vec<u8> = (0..30_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(sshd.root().join("big"), &bytes).unwrap();
    world.apply("ssh_file", attributes(json!({ "path": sshd.path("copy"), "source": "big" }))).await.unwrap();
    assert!(fs::read(sshd.path("copy")).unwrap() == bytes);
    assert_eq!(world.connection.statistics()[0], ("ssh connections", 1));
}

#[tokio::test]
async fn dropped_connections_are_tried_again() {
    let Some(sshd) = Sshd::start("MaxStartups 1:100:1\n") else { return };
    let node = Node { host_keys: vec![sshd.public_key()], ..sshd.node() };
    // A connection without any data occupies the only place for a while.
    let holder = TcpStream::connect(("127.0.0.1", sshd.port)).unwrap();
    let world = sshd.world(node).await;
    let desired = attributes(json!({ "path": sshd.path("none"), "content": "" }));
    let read = world.read("ssh_file", Some(desired));
    let release = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(holder);
    };
    let (read, ()) = tokio::join!(read, release);
    assert_eq!(read, Ok(None));
}

#[tokio::test]
async fn a_lost_connection_is_opened_again() {
    let Some(sshd) = Sshd::start("") else { return };
    let node = Node { host_keys: vec![sshd.public_key()], ..sshd.node() };
    let world = sshd.world(node).await;
    let pid = attributes(json!({ "script": "printf %s $PPID" }));
    let parent = world.apply("ssh_exec", pid).await.unwrap().attributes["stdout"].as_str().unwrap().to_owned();
    assert!(Command::new("kill").args(["-KILL", &parent]).status().unwrap().success());
    let desired = attributes(json!({ "path": sshd.path("none"), "content": "" }));
    assert_eq!(world.read("ssh_file", Some(desired)).await, Ok(None));
    assert_eq!(world.connection.statistics()[0], ("ssh connections", 2));
}

#[tokio::test]
async fn a_command_that_times_out_is_killed_on_the_node() {
    let Some(sshd) = Sshd::start("") else { return };
    let node = Node { host_keys: vec![sshd.public_key()], ..sshd.node() };
    let world = sshd.world(node).await;
    let pid = sshd.dir.path().join("pid");
    let script = format!("sh -c 'echo $$ > {}; exec sleep 600' & wait", pid.display());
    let desired = attributes(json!({ "name": "slow", "script": script, "timeout": "500ms" }));
    let error = world.apply("ssh_exec", desired).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &sshd), @r#"
    Timeout: cannot run the command `slow` on gpu01: timed out after 500ms
    help: if the operation is only slow, raise `timeouts = { … }` on the resource (`timeout` of ssh_exec)
    "#);
    let process = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
    let gone = async {
        while fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the child is killed");
}

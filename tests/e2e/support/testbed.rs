//! A testbed for one test, taken down when the test ends, whether it passed or failed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

/// A testbed that is up. Dropping it takes it down.
///
/// `C` is its control plane: [`ControlPlane`], or `()` for nodes only.
pub struct Testbed<C = ControlPlane> {
    name: String,
    pub facts: Facts<C>,
    started: Instant,
    _permit: Permit,
}

/// The JSON document that `testbed up` prints.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts<C = ControlPlane> {
    pub state: PathBuf,
    pub ssh: Ssh,
    pub nodes: Vec<Node>,
    pub control_plane: C,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Ssh {
    pub identity_file: PathBuf,
    pub known_hosts: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub name: String,
    pub address: String,
    pub host_keys: Vec<HostKey>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct HostKey {
    #[serde(rename = "type")]
    pub kind: String,
    pub fingerprint: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ControlPlane {
    pub server: String,
    pub kubeconfig: PathBuf,
    pub ca: PathBuf,
    pub admin: Credentials,
    pub controller_manager: Credentials,
    pub binaries: BTreeMap<String, PathBuf>,
}

/// A client certificate and its key.
#[derive(Clone, Debug, Deserialize)]
pub struct Credentials {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Node {
    /// Returns the fingerprint of the Ed25519 host key.
    pub fn pin(&self) -> &str {
        let ed25519 = self.host_keys.iter().find(|key| key.kind == "ssh-ed25519");
        &ed25519.expect("a node has an Ed25519 host key").fingerprint
    }
}

impl<C> Facts<C> {
    /// Returns the block of a node with a pinned host key, to which `user` logs in. Further attributes can follow it.
    pub fn node_block(&self, node: &Node, user: &str) -> String {
        let (Node { name, address, .. }, key) = (node, self.ssh.identity_file.display());
        let pin = node.pin();
        format!(
            "[nodes.{name}]\naddress = \"{address}\"\nuser = \"{user}\"\nidentity_file = \"{key}\"\nhost_key = \"{pin}\"\n"
        )
    }
}

impl Facts {
    /// Returns the block of the Kubernetes provider with the rights of an administrator.
    pub fn cluster_block(&self) -> String {
        format!("[providers.kubernetes]\nkubeconfig = \"{}\"\n", self.control_plane.kubeconfig.display())
    }
}

impl Testbed {
    /// Brings up a testbed with the given name and number of nodes. Prints the reason and returns `None` if this machine cannot run one.
    ///
    /// # Panics
    /// If it cannot run one and `MOORFAST_REQUIRE_TESTBED=1`, or if the testbed does not come up.
    pub fn up(purpose: &str, nodes: usize) -> Option<Self> {
        Self::start(purpose, nodes, &[])
    }
}

impl Testbed<()> {
    /// Brings up a testbed without a control plane, as [`Testbed::up`] does.
    pub fn up_nodes(purpose: &str, nodes: usize) -> Option<Self> {
        Self::start(purpose, nodes, &["--no-control-plane"])
    }
}

impl<C: DeserializeOwned> Testbed<C> {
    fn start(purpose: &str, nodes: usize, options: &[&str]) -> Option<Self> {
        if let Some(reason) = obstacle() {
            assert!(!is_required(), "a testbed is required, but {reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        // The name is the same for every run of this checkout, so that `up` removes the testbed of a killed run. Other checkouts have other names.
        let name = format!("{purpose}-{:08x}", checkout());
        let permit = Permit::acquire();
        let started = Instant::now();
        let up = ["up", "--name", &name, "--nodes", &nodes.to_string()];
        let output = command(&[&up[..], options].concat()).stderr(Stdio::inherit()).output();
        let output = output.expect("the testbed's script can be run");
        assert!(output.status.success(), "the testbed did not come up: {}", output.status);
        let facts = serde_json::from_slice(&output.stdout).expect("the testbed prints its facts");
        Some(Self { name, facts, started, _permit: permit })
    }

    /// Reads the facts again, for example after a node was replaced.
    pub fn current_facts(&self) -> Facts<C> {
        let text = std::fs::read(self.facts.state.join("testbed.json")).expect("the testbed keeps its facts");
        serde_json::from_slice(&text).expect("the testbed keeps its facts as JSON")
    }
}

impl<C> Testbed<C> {
    /// Runs a command of the testbed's script and returns its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut words = arguments.to_vec();
        words.extend(["--name", &self.name]);
        stdout_of(&format!("testbed {}", arguments.join(" ")), command(&words).output())
    }

    /// Runs a shell script as root on `node`, without ssh, and returns its output.
    ///
    /// # Panics
    /// If the script fails.
    pub fn on(&self, node: &str, script: &str) -> String {
        stdout_of(&format!("on {node}: {script}"), self.try_on(node, script))
    }

    /// Runs a shell script as root on `node`, without ssh.
    pub fn try_on(&self, node: &str, script: &str) -> std::io::Result<Output> {
        command(&["node", "exec", "--name", &self.name, node, "--", "sh", "-c", script]).output()
    }

    /// Copies what is in `folder` to the folder `to` on `node`, where it belongs to root.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn send(&self, folder: &Path, node: &str, to: &str) {
        let mut tar =
            Command::new("tar").arg("-C").arg(folder).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let script = format!("mkdir -p {to} && tar -C {to} -x --no-same-owner");
        let words = ["node", "exec", "--name", &self.name, node, "--", "sh", "-c", &script];
        let output = command(&words).stdin(tar.stdout.take().unwrap()).output();
        stdout_of(&format!("copy {} to {node}", folder.display()), output);
        assert!(tar.wait().is_ok_and(|status| status.success()), "tar cannot read {}", folder.display());
    }

    /// Builds the image `tag` from a Containerfile and the files in `context`, and loads it into the container runtime of `node`.
    pub fn load(&self, node: &str, tag: &str, containerfile: &str, context: &Path) {
        let context = context.display().to_string();
        let words = ["node", "load", "--name", &self.name, node, "--", tag, containerfile, &context];
        stdout_of(&format!("testbed node load {tag}"), command(&words).output());
    }

    /// Returns the names of the nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.facts.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

impl Testbed {
    /// Creates a key at `path` and permits it on `node` as `examples/drift-cron/node` does: to read, not to change anything.
    pub fn permit_read_only_key(&self, node: &str, path: &Path) {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
        assert!(made.is_ok_and(|status| status.success()), "ssh-keygen cannot create a key");
        let public = std::fs::read_to_string(path.with_extension("pub")).expect("ssh-keygen writes the public key");
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/drift-cron/node");
        self.send(&files, node, "/tmp/reader");
        self.on(node, &format!("cd /tmp/reader; ./install '{}'; rm -r /tmp/reader", public.trim()));
    }

    /// Runs kubectl and returns its output.
    ///
    /// # Panics
    /// If kubectl fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        stdout_of(&format!("kubectl {}", arguments.join(" ")), self.kubectl_command().args(arguments).output())
    }

    /// Runs kubectl and returns its output and its errors, whatever its exit code.
    pub fn try_kubectl(&self, arguments: &[&str]) -> String {
        let output = self.kubectl_command().args(arguments).output().expect("kubectl can be run");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Gets an object or a list, `null` if the object does not exist.
    pub fn get(&self, arguments: &[&str]) -> Json {
        let text = self.kubectl(&[&["get", "-o", "json", "--ignore-not-found"], arguments].concat());
        if text.is_empty() { Json::Null } else { serde_json::from_str(&text).expect("kubectl prints JSON") }
    }

    /// Gets the names of objects.
    pub fn names(&self, arguments: &[&str]) -> Vec<String> {
        let text = self.kubectl(&[&["get", "-o", "name"], arguments].concat());
        text.lines().map(|line| line.rsplit('/').next().unwrap_or(line).to_owned()).collect()
    }

    fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(&self.facts.control_plane.binaries["kubectl"]);
        kubectl.env("KUBECONFIG", &self.facts.control_plane.kubeconfig);
        kubectl
    }

    /// Returns a kubeconfig, as JSON, with a token of this ServiceAccount.
    pub fn kubeconfig_of(&self, account: &str, namespace: &str) -> String {
        let token = self.kubectl(&["create", "token", account, "-n", namespace]);
        let control_plane = &self.facts.control_plane;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": control_plane.server,
                "certificate-authority": control_plane.ca,
            }}],
            "users": [{"name": "u", "user": {"token": token.trim()}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        config.to_string()
    }

    /// Requests `url` with curl, which trusts only the CA of the cluster, and returns the status and the body.
    pub fn curl(&self, url: &str, credentials: &[&str]) -> (u16, String) {
        let ca = self.facts.control_plane.ca.display().to_string();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert", &ca])
            .args(credentials)
            .arg(url)
            .output();
        let text = stdout_of(&format!("curl {url}"), output);
        let (body, status) = text.rsplit_once('\n').expect("curl writes the status last");
        (status.parse().expect("a status is a number"), body.to_owned())
    }
}

impl<C> Drop for Testbed<C> {
    fn drop(&mut self) {
        if std::env::var("MOORFAST_KEEP_TESTBED").as_deref() == Ok("1") {
            eprintln!("the testbed `{}` is kept", self.name);
            return;
        }
        let down = command(&["down", "--name", &self.name]).stderr(Stdio::null()).status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("the testbed `{}` could not be taken down", self.name);
        }
        eprintln!("testbed `{}`: {:.0?} from up to down", self.name, self.started.elapsed());
    }
}

/// Returns the folder with the binaries and images of a whole cluster, which are built if necessary.
pub fn cluster_binaries() -> String {
    built("cluster-binaries")
}

/// Returns the same for the previous minor version of Kubernetes.
pub fn previous_cluster_binaries() -> String {
    built("previous-cluster-binaries")
}

/// Returns the folder that a command of the testbed's script builds and prints.
fn built(what: &str) -> String {
    let built = command(&[what]).stderr(Stdio::inherit()).output();
    stdout_of(&format!("testbed {what}"), built).trim().to_owned()
}

/// How many testbeds are up at the same time. The tests run in parallel threads, and more would be too much for two cores.
const AT_ONCE: usize = 2;

static ACQUIRED: Mutex<usize> = Mutex::new(0);
static RELEASED: Condvar = Condvar::new();

/// One of the [`AT_ONCE`] permits to have a testbed up, released when it is dropped.
struct Permit;

impl Permit {
    /// Waits for a permit.
    fn acquire() -> Self {
        let mut acquired = RELEASED.wait_while(ACQUIRED.lock().unwrap(), |acquired| *acquired == AT_ONCE).unwrap();
        *acquired += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *ACQUIRED.lock().unwrap() -= 1;
        RELEASED.notify_one();
    }
}

/// Whether a test must fail if it cannot have a testbed, instead of being skipped.
pub fn is_required() -> bool {
    std::env::var("MOORFAST_REQUIRE_TESTBED").as_deref() == Ok("1")
}

/// Returns the reason if this machine cannot run a testbed.
fn obstacle() -> Option<&'static str> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !cfg!(target_os = "linux") || !Path::new("/etc/debian_version").exists() {
        return Some("the testbed needs Debian");
    }
    (!is_root).then_some("the testbed needs root")
}

/// Returns a number that differs between checkouts.
fn checkout() -> u32 {
    let digest = moorfast_state::Digest::of(env!("CARGO_MANIFEST_DIR").as_bytes());
    let digits = digest.as_str().trim_start_matches("blake3:");
    u32::from_str_radix(&digits[..8], 16).expect("a digest is hexadecimal")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/testbed"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Returns the standard output of a command, which must have succeeded.
fn stdout_of(name: &str, output: std::io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

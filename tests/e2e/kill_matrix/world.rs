//! The manifest of the matrix, and the objects that really exist.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::testbed::Testbed;

const FOLDER: &str = "/srv/kills";
/// Where the ConfigMaps are.
pub const NAMESPACE: &str = "kills";

/// The data and the uid of each ConfigMap.
pub type ConfigMaps = BTreeMap<String, (String, String)>;

/// The size of a manifest.
#[derive(Clone, Copy)]
pub struct Size {
    /// Chains of a file, a ConfigMap with its digest, a file with that, and a ConfigMap with the digest of that.
    pub chains: usize,
    /// Bootstrap tokens, each with a file that holds it.
    pub tokens: usize,
}

impl Size {
    /// Returns the number of resources.
    pub fn resources(self) -> usize {
        4 * self.chains + 2 * self.tokens + 2
    }
}

/// The desired objects.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub size: Size,
    /// Part of every content, so that each manifest changes all objects.
    pub generation: u32,
}

/// The objects that exist, read without moorfast.
#[derive(Default)]
pub struct World {
    /// The content of each file.
    pub files: BTreeMap<String, String>,
    /// The SHA-256 of each file.
    pub sums: BTreeMap<String, String>,
    /// The ConfigMaps of the cluster.
    pub config_maps: ConfigMaps,
    /// The bootstrap tokens of the cluster.
    pub tokens: BTreeSet<String>,
    /// The content of the file that the unit watches, when the unit last started.
    pub seen: String,
}

impl World {
    /// Reads the node and the cluster.
    pub fn of(testbed: &Testbed) -> Self {
        std::thread::scope(|scope| {
            let config_maps = scope.spawn(|| config_maps(testbed));
            let tokens = scope.spawn(|| tokens(testbed));
            let (seen, files, sums) = files(testbed);
            World { files, sums, config_maps: config_maps.join().unwrap(), tokens: tokens.join().unwrap(), seen }
        })
    }
}

/// Reads what the unit saw when it last started, and the content and the SHA-256 of each file. What is no file has neither.
fn files(testbed: &Testbed) -> (String, BTreeMap<String, String>, BTreeMap<String, String>) {
    let script = format!(
        "cat /run/kills-seen 2>/dev/null; echo; cd {FOLDER} 2>/dev/null || exit 0; \
         find . -mindepth 1 -maxdepth 1 ! -type f -printf '%f:\\n'; \
         grep -d skip '' $(ls -A) /dev/null; echo; find . -maxdepth 1 -type f -printf '%f\\0' | xargs -0r sha256sum"
    );
    let text = testbed.on(&testbed.facts.nodes[0].name, &script);
    let (seen, rest) = text.split_once('\n').unwrap_or_default();
    let (files, sums) = rest.split_once("\n\n").unwrap_or_default();
    let files = files.lines().filter_map(|line| line.split_once(':')).map(|(n, c)| (n.to_owned(), c.to_owned()));
    let sums = sums.lines().filter_map(|line| line.split_once("  ")).map(|(s, n)| (n.to_owned(), s.to_owned()));
    (seen.to_owned(), files.collect(), sums.collect())
}

/// Reads the ConfigMaps. Unlike the files, they can be read while a node still runs the script of a run that was killed.
pub fn config_maps(testbed: &Testbed) -> ConfigMaps {
    let template = "go-template={{range .items}}{{.metadata.name}} {{.data.sum}} {{.metadata.uid}}\n{{end}}";
    let maps = testbed.kubectl(&["get", "configmaps", "-n", NAMESPACE, "-o", template]);
    let map = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Some((words.next()?, (words.next()?, words.next()?)))
    };
    maps.lines().filter_map(map).filter(|(name, _)| name != "kube-root-ca.crt").collect()
}

fn tokens(testbed: &Testbed) -> BTreeSet<String> {
    let template = "go-template={{range .items}}\
        {{index .data \"token-id\" | base64decode}}.{{index .data \"token-secret\" | base64decode}}\n{{end}}";
    let of_type = "type=bootstrap.kubernetes.io/token";
    let tokens = testbed.kubectl(&["get", "secrets", "-n", "kube-system", "--field-selector", of_type, "-o", template]);
    tokens.lines().map(str::to_owned).collect()
}

impl Wanted {
    /// Returns the manifest, with the store of `backend`.
    pub fn manifest(self, testbed: &Testbed, backend: &str) -> String {
        let facts = &testbed.facts;
        let (node, cluster) = (facts.node_block(&facts.nodes[0], "root"), facts.cluster_block());
        let mut text =
            format!("{backend}{node}{cluster}[resource.ssh_directory.folder]\non = \"all\"\npath = \"{FOLDER}\"\n");
        for i in 0..self.size.chains {
            text += &file(&format!("a{i}"), &self.origin(i));
            text += &config_map(&format!("b{i}"), &format!("${{ssh_file.a{i}.sha256}}"));
            text += &file(&format!("c{i}"), &format!("${{kubernetes_object.b{i}.manifest.data.sum}}"));
            text += &config_map(&format!("d{i}"), &format!("${{ssh_file.c{i}.sha256}}"));
        }
        for i in 0..self.size.tokens {
            text += &format!("[resource.kubernetes_bootstrap_token.t{i}]\non = \"all\"\nnode = \"kills-{i}\"\n");
            text += &file(&format!("token{i}"), &format!("${{kubernetes_bootstrap_token.t{i}.token}}"));
        }
        text += &format!(
            "[resource.ssh_systemd_unit.watch]\non = \"all\"\nname = \"kills.service\"\nstate = \"running\"\nsettle = \"100ms\"\n\
             restart_on = [\"ssh_file.a0\"]\ndepends_on = [\"ssh_file.a0\"]\n\
             content = \"[Service]\\nExecStartPre=/bin/cp {FOLDER}/a0 /run/kills-seen\\nExecStart=/bin/sleep infinity\\n\"\n"
        );
        text
    }

    fn origin(self, i: usize) -> String {
        format!("chain {i} of generation {}", self.generation)
    }

    /// Returns the desired content of each file that holds no token.
    pub fn files(self, world: &World) -> BTreeMap<String, String> {
        let sum = |i| world.sums.get(&format!("a{i}")).cloned().unwrap_or_default();
        let chain = |i| [(format!("a{i}"), self.origin(i)), (format!("c{i}"), sum(i))];
        (0..self.size.chains).flat_map(chain).collect()
    }

    /// Returns the desired data of each ConfigMap.
    pub fn config_maps(self, world: &World) -> BTreeMap<String, String> {
        let sum = |name: String| world.sums.get(&name).cloned().unwrap_or_default();
        let chain = |i| [(format!("b{i}"), sum(format!("a{i}"))), (format!("d{i}"), sum(format!("c{i}")))];
        (0..self.size.chains).flat_map(chain).collect()
    }
}

fn file(name: &str, content: &str) -> String {
    format!(
        "[resource.ssh_file.{name}]\non = \"all\"\npath = \"${{ssh_directory.folder.path}}/{name}\"\ncontent = \"{content}\"\n"
    )
}

fn config_map(name: &str, sum: &str) -> String {
    format!(
        "[resource.kubernetes_object.{name}]\non = \"all\"\n[resource.kubernetes_object.{name}.manifest]\napiVersion = \"v1\"\nkind = \"ConfigMap\"\n\
         metadata = {{ name = \"{name}\", namespace = \"{NAMESPACE}\" }}\ndata = {{ sum = \"{sum}\" }}\n"
    )
}

//! `data.ssh_facts`: facts about a node.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Declaration, ResourceType, TargetKind};

use crate::script::Section;

pub(crate) const READ: &str = include_str!("facts/read.sh");

/// The data source `ssh_facts`.
pub(crate) struct Facts;

impl ResourceType for Facts {
    fn declaration(&self) -> &Declaration {
        static DECLARATION: LazyLock<Declaration> = LazyLock::new(declaration);
        &DECLARATION
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        None
    }
}

fn declaration() -> Declaration {
    let text = |name, doc| Attribute::computed(name, Kind::String, doc);
    let schema = Schema::new(
        "Facts about a node: its operating system, its size and its identity.",
        [
            text("hostname", "The host name, as `uname -n` prints it."),
            text("machine_id", "The content of `/etc/machine-id`. Changes with every installation."),
            text("boot_id", "The boot ID of the kernel. Changes with every boot."),
            text("os_id", "The distribution, from os-release: `debian`, `fedora`."),
            text("os_version", "The version of the distribution, from os-release: `12`. Empty if it has none."),
            text("kernel", "The release of the kernel: `6.1.0-18-amd64`."),
            text("architecture", "The architecture, from `uname -m`: `x86_64`, `aarch64`."),
            Attribute::computed("cpus", Kind::Integer, "The number of processors."),
            Attribute::computed("memory", Kind::Integer, "The memory, in KiB."),
            Attribute::computed("addresses", Kind::list(Kind::String), "The IP addresses with global scope."),
            Attribute::computed("cgroup_version", Kind::Integer, "The version of the control groups: 1 or 2."),
            Attribute::computed("systemd_version", Kind::Integer, "The version of systemd. 0 if the node has none."),
            Attribute::computed("package_manager", Kind::String, "The package manager: `apt`, `dnf`, or empty."),
            Attribute::computed("swap_devices", Kind::list(Kind::String), "The active swap devices and swap files."),
            Attribute::computed(
                "host_keys",
                Kind::list(Kind::String),
                "The fingerprints of the SSH host keys, `SHA256:…`.",
            ),
        ],
    );
    Declaration { name: "ssh_facts", target_kind: TargetKind::Node, schema }
}

/// Returns the facts from the answer of the node.
pub(crate) fn observe(answer: &Section) -> Attributes {
    let text = |name: &str| answer.text(name).unwrap_or_default();
    let number = |text: &str| Value::from(text.trim().parse::<i64>().unwrap_or_default());
    let lines =
        |name: &str| Value::from(text(name).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect::<Vec<_>>());
    let release: BTreeMap<String, String> = text("os_release")
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .collect();
    let os = |name: &str| Value::from(release.get(name).cloned().unwrap_or_default());
    let systemd = text("systemd");
    let mut facts: Attributes = ["hostname", "kernel", "architecture", "package_manager"]
        .iter()
        .map(|name| ((*name).to_owned(), Value::from(text(name))))
        .collect();
    let ids =
        ["machine_id", "boot_id"].map(|name| (name.to_owned(), Value::from(answer.field(name).unwrap_or_default())));
    facts.extend(ids);
    let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    put("os_id", os("ID"));
    put("os_version", os("VERSION_ID"));
    put("cpus", number(&text("cpus")));
    put("memory", number(&text("memory")));
    put("addresses", lines("addresses"));
    put("cgroup_version", number(&text("cgroup_version")));
    put("systemd_version", number(systemd.split(' ').nth(1).unwrap_or_default()));
    put("swap_devices", lines("swap"));
    put("host_keys", Value::from(answer.texts("host_key")));
    facts
}

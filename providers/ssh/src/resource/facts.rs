//! `data.ssh_facts`: facts about a node.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Declaration, ResourceType, TargetKind};

use crate::script::Section;

/// Shell that reports the facts besides those of [`crate::machine::READ`]. A missing fact is an empty text.
pub(crate) const READ: &str = r#"
say() { printf %s "$2" | blob "$1"; }
say hostname "$(uname -n)"
say kernel "$(uname -r)"
say architecture "$(uname -m)"
say os_release "$(cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null || true)"
say cpus "$(nproc 2>/dev/null || true)"
say memory "$(while read -r k v u; do case $k in MemTotal:) echo "$v"; break ;; esac; done < /proc/meminfo)"
say swap "$(while read -r f t r; do case $f in Filename) ;; *) echo "$f" ;; esac; done < /proc/swaps)"
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then say cgroup_version 2; else say cgroup_version 1; fi
say systemd "$(systemctl --version 2>/dev/null | head -n 1 || true)"
say addresses "$(ip -o addr show scope global 2>/dev/null | while read -r n i f a r; do echo "${a%%/*}"; done || true)"
[ -n "$(command -v ip)" ] || say addresses "$(hostname -I 2>/dev/null | tr ' ' '\n' || true)"
if [ -x /usr/bin/apt-get ]; then say package_manager apt; elif [ -x /usr/bin/dnf ]; then say package_manager dnf; else say package_manager ''; fi
for k in /etc/ssh/ssh_host_*_key.pub; do
  if [ -r "$k" ]; then ssh-keygen -l -E sha256 -f "$k" 2>/dev/null | { read -r b f r; printf %s "$f" | blob host_key; } || true; fi
done
"#;

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

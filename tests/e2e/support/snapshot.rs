//! The contents of a testbed, compared to check that a destroy leaves nothing behind.

use std::collections::BTreeMap;

use super::testbed::Testbed;

/// Lists by topic: files, packages, users and units of each node, objects of the cluster.
pub struct Snapshot(BTreeMap<String, Vec<String>>);

/// Lists all files except those that change by themselves or belong to apt and dpkg.
const FILES: &str = r"find / -xdev \
  \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log \
     -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /root/.ssh \) -prune \
  -o -print | sort; find /data /var/lib/containerd /var/lib/kubelet -mindepth 1 2>/dev/null | sort";
const ABOUT_NODES: [(&str, &str); 6] = [
    ("files", FILES),
    ("packages", "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'"),
    ("users", "cut -d: -f1 /etc/passwd; cut -d: -f1 /etc/group"),
    ("units", "systemctl list-unit-files --no-legend --no-pager | tr -s ' ' | sort"),
    (
        "running",
        "systemctl list-units --type=service --state=running --no-legend --plain | cut -d' ' -f1 | grep -v '^user@' | sort",
    ),
    ("containers", "ps -eo args | grep '[c]ontainerd-shim' || true"),
];
const KINDS: [&str; 7] = [
    "nodes",
    "certificatesigningrequests",
    "clusterroles",
    "clusterrolebindings",
    "secrets",
    "serviceaccounts",
    "leases",
];

impl Snapshot {
    /// Reads the current contents.
    pub fn of(testbed: &Testbed) -> Self {
        let Self(mut lines) = Self::of_nodes(testbed);
        for kind in KINDS {
            lines.insert(kind.to_owned(), testbed.names(&[kind, "--all-namespaces"]));
        }
        Self(lines)
    }

    /// Reads the current contents of the nodes.
    pub fn of_nodes<C>(testbed: &Testbed<C>) -> Self {
        let of_nodes = testbed.node_names().into_iter().map(|node| Self::of_node(testbed, &node));
        Self(of_nodes.flat_map(|Self(lines)| lines).collect())
    }

    /// Reads the current contents of one node.
    pub fn of_node<C>(testbed: &Testbed<C>, node: &str) -> Self {
        let of_topic = |(what, script)| (format!("{what} of {node}"), split(&testbed.on(node, script)));
        Self(ABOUT_NODES.into_iter().map(of_topic).collect())
    }

    /// Returns the differences from `before`, one line each: `+` for what was added, `-` for what was removed.
    pub fn since(&self, before: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        for (what, now) in &self.0 {
            let then = before.0.get(what).map(Vec::as_slice).unwrap_or_default();
            found.extend(now.iter().filter(|line| !then.contains(line)).map(|line| format!("{what}: + {line}")));
            found.extend(then.iter().filter(|line| !now.contains(line)).map(|line| format!("{what}: - {line}")));
        }
        found
    }
}

fn split(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

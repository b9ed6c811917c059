//! Which machine a node is: what tells it from another one, and what happened to it since it was seen last.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::NodeName;

/// What tells a machine from another one. None of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The fingerprints of its SSH host keys, `SHA256:…`, of Ed25519 first. Empty where it was reached without ssh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<String>,
    /// What is in `/etc/machine-id`: made with the installation. See machine-id(5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Made with every boot: `/proc/sys/kernel/random/boot_id`. See random(4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Where it was reached.
    pub address: String,
}

/// Who answered for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// What it shows of itself.
    pub machine: Machine,
    /// Did it prove to be the one that is known by its host key? What another one says of itself is only good to tell a person.
    pub trusted: bool,
}

/// What happened to the machine of a node since it was seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeChangeKind {
    /// Other host keys and another installation: it is another machine.
    Replaced,
    /// The same host keys on another installation.
    Reimaged,
    /// Other host keys on the same installation.
    Rotated,
    /// The same machine at another address.
    Renumbered,
    /// The same machine after another boot.
    Rebooted,
}

/// A node whose machine is not as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChange {
    /// Which node.
    pub node: NodeName,
    /// What happened to it.
    pub kind: NodeChangeKind,
    /// The machine that is recorded.
    pub before: Machine,
    /// The machine that answers now.
    pub after: Machine,
    /// May another machine take the place of the recorded one? True for whatever leaves the machine the same.
    pub approved: bool,
    /// Is its host key in the manifest?
    pub pinned: bool,
}

/// That another machine may take the place of a node's: `gpu02`, or `gpu02=SHA256:…` for that very one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Which node.
    pub node: NodeName,
    /// The fingerprint of one of the new machine's host keys; any machine where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}

impl Machine {
    /// What happened to this machine, where `now` answers in its place.
    pub fn became(&self, now: &Machine) -> Option<NodeChangeKind> {
        let differs = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
        // One key that both show is proof enough; a key of a new type is no change.
        let other_keys = !self.host_keys.is_empty()
            && !now.host_keys.is_empty()
            && !self.host_keys.iter().any(|key| now.host_keys.contains(key));
        let other_installation = differs(&self.machine_id, &now.machine_id);
        // Where a machine with other keys does not tell what it is, the worse is assumed.
        let untold = self.machine_id.is_none() || now.machine_id.is_none();
        match (other_keys, other_installation) {
            (true, other) if other || untold => Some(NodeChangeKind::Replaced),
            (true, _) => Some(NodeChangeKind::Rotated),
            (false, true) if now.host_keys.is_empty() => Some(NodeChangeKind::Replaced),
            (false, true) => Some(NodeChangeKind::Reimaged),
            _ if self.address != now.address => Some(NodeChangeKind::Renumbered),
            _ if differs(&self.boot_id, &now.boot_id) => Some(NodeChangeKind::Rebooted),
            _ => None,
        }
    }
}

impl NodeChange {
    /// Has another machine, that nobody approved, taken the place of the node's? Then nothing is done there.
    pub fn is_withheld(&self) -> bool {
        self.kind.is_another_machine() && !self.approved
    }

    /// What approves it, once a person compared the fingerprint: an option of plan and apply, or a line of the manifest.
    pub fn approval(&self) -> String {
        let node = &self.node;
        match self.after.host_keys.first() {
            Some(key) if self.pinned => format!("host_key = \"{key}\" in [nodes.{node}]"),
            Some(key) => format!("--replace-node {node}={key}"),
            None => format!("--replace-node {node}"),
        }
    }
}

impl NodeChangeKind {
    /// Is it another machine or another installation, where nothing is left of what was on the node?
    pub fn is_another_machine(self) -> bool {
        matches!(self, Self::Replaced | Self::Reimaged)
    }

    /// Must a person look at it? A boot and an address are nothing to worry about.
    pub fn is_mismatch(self) -> bool {
        self.is_another_machine() || self == Self::Rotated
    }

    /// Its word in messages and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Reimaged => "reimaged",
            Self::Rotated => "rotated",
            Self::Renumbered => "renumbered",
            Self::Rebooted => "rebooted",
        }
    }
}

impl fmt::Display for NodeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, before, after, .. } = self;
        let key = |machine: &Machine| machine.host_keys.first().cloned().unwrap_or_else(|| "no host key".to_owned());
        let id = |machine: &Machine| machine.machine_id.clone().unwrap_or_else(|| "no machine-id".to_owned());
        match self.kind {
            NodeChangeKind::Replaced if before.host_keys.is_empty() || after.host_keys.is_empty() => {
                write!(f, "node {node} replaced: machine-id {} → {}", id(before), id(after))
            }
            NodeChangeKind::Replaced => write!(f, "node {node} replaced: {} → {}", key(before), key(after)),
            NodeChangeKind::Reimaged => {
                write!(f, "node {node} re-imaged, with its old host keys: machine-id {} → {}", id(before), id(after))
            }
            NodeChangeKind::Rotated => {
                write!(f, "node {node} has new host keys, on the same machine: {} → {}", key(before), key(after))
            }
            NodeChangeKind::Renumbered => {
                write!(f, "node {node} has another address: {} → {}", before.address, after.address)
            }
            NodeChangeKind::Rebooted => write!(f, "node {node} was rebooted"),
        }
    }
}

impl FromStr for Replacement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, host_key) = match text.split_once('=') {
            Some((node, key)) => (node, Some(key)),
            None => (text, None),
        };
        if node.is_empty() {
            return Err("expected the name of a node, as in gpu02 or gpu02=SHA256:…".to_owned());
        }
        if host_key.is_some_and(|key| !key.starts_with("SHA256:")) {
            return Err("a fingerprint begins with SHA256:, as `ssh-keygen -lf` prints it".to_owned());
        }
        Ok(Self { node: NodeName(node.to_owned()), host_key: host_key.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(keys: &[&str], machine_id: &str, boot_id: &str, address: &str) -> Machine {
        let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        Machine {
            host_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            machine_id: text(machine_id),
            boot_id: text(boot_id),
            address: address.to_owned(),
        }
    }

    #[test]
    fn what_happened_to_a_machine() {
        use NodeChangeKind::*;
        let before = machine(&["ed", "rsa"], "m1", "b1", "a1");
        let cases = [
            (machine(&["ed", "rsa"], "m1", "b1", "a1"), None),
            (machine(&["rsa", "ecdsa"], "m1", "b1", "a1"), None),
            (machine(&["new"], "m1", "b1", "a1"), Some(Rotated)),
            (machine(&["new"], "m1", "b2", "a2"), Some(Rotated)),
            (machine(&["new"], "m2", "b2", "a1"), Some(Replaced)),
            (machine(&["new"], "", "", "a1"), Some(Replaced)),
            (machine(&["ed"], "m2", "b2", "a1"), Some(Reimaged)),
            (machine(&["ed"], "m1", "b2", "a2"), Some(Renumbered)),
            (machine(&["ed"], "m1", "b2", "a1"), Some(Rebooted)),
            (machine(&["ed"], "", "", "a1"), None),
        ];
        for (now, expected) in cases {
            assert_eq!(before.became(&now), expected, "{now:?}");
        }
        let local = machine(&[], "m1", "b1", "this machine");
        assert_eq!(local.became(&machine(&[], "m2", "b2", "this machine")), Some(Replaced));
    }

    #[test]
    fn a_replacement_is_written_by_name_and_fingerprint() {
        let cases = [
            ("gpu02", Ok(("gpu02", None))),
            ("gpu02=SHA256:abc", Ok(("gpu02", Some("SHA256:abc")))),
            ("=SHA256:abc", Err(())),
            ("gpu02=abc", Err(())),
            ("", Err(())),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<Replacement>().map_err(|_| ());
            let expected = expected.map(|(node, key): (&str, Option<&str>)| Replacement {
                node: NodeName(node.to_owned()),
                host_key: key.map(str::to_owned),
            });
            assert_eq!(parsed, expected, "{text}");
        }
    }
}

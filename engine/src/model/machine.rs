//! The identity of a node's machine, and its changes since the last contact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::NodeName;

/// The identity of a machine. It contains no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The fingerprints (`SHA256:…`) of its SSH host keys, Ed25519 first. Empty if the machine was not reached by ssh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<String>,
    /// The content of `/etc/machine-id`, which is created at installation. See machine-id(5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The content of `/proc/sys/kernel/random/boot_id`, which changes at every boot. See random(4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The address at which it was reached.
    pub address: String,
}

/// The machine that answered at the address of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The identity that the machine reports.
    pub machine: Machine,
    /// Whether its host key is the known one. The identity of an untrusted machine is only shown to the user.
    pub trusted: bool,
}

/// The change of a node's machine since the last contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeChangeKind {
    /// Other host keys and another installation: another machine.
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

/// A node whose machine changed since the last contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChange {
    /// The node.
    pub node: NodeName,
    /// The kind of change.
    pub kind: NodeChangeKind,
    /// The recorded machine.
    pub before: Machine,
    /// The machine that answers now.
    pub after: Machine,
    /// Whether the new machine is accepted. Always true if it is the same machine.
    pub approved: bool,
    /// Whether the host key is pinned in the manifest.
    pub pinned: bool,
}

/// The approval of another machine for a node: `gpu02`, or `gpu02=SHA256:…` for one machine only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The node.
    pub node: NodeName,
    /// The fingerprint of a host key of the new machine. `None` accepts any machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}

impl Machine {
    /// Returns the change if `now` answers at the address of this machine, or `None` if nothing changed.
    pub fn became(&self, now: &Machine) -> Option<NodeChangeKind> {
        let differs = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
        // One common key proves that the machine is the same. A key of a new type is not a change.
        let other_keys = !self.host_keys.is_empty()
            && !now.host_keys.is_empty()
            && !self.host_keys.iter().any(|key| now.host_keys.contains(key));
        let other_installation = differs(&self.machine_id, &now.machine_id);
        // Without a machine-id, a machine with other keys counts as replaced.
        let is_unidentified = self.machine_id.is_none() || now.machine_id.is_none();
        match (other_keys, other_installation) {
            (true, other) if other || is_unidentified => Some(NodeChangeKind::Replaced),
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
    /// Whether another machine answers and is not approved. Then the node is not changed.
    pub fn is_unapproved(&self) -> bool {
        self.kind.is_another_machine() && !self.approved
    }

    /// Returns how to approve the machine after comparing the fingerprint: an option of plan and apply, or a line of the manifest.
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
    /// Whether it is another machine or another installation. All objects of the node are lost then.
    pub fn is_another_machine(self) -> bool {
        matches!(self, Self::Replaced | Self::Reimaged)
    }

    /// Whether the user must check it. A reboot or a new address is harmless.
    pub fn is_mismatch(self) -> bool {
        self.is_another_machine() || self == Self::Rotated
    }

    /// Returns its name in messages and JSON.
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
            return Err("expected a node name, as in gpu02 or gpu02=SHA256:…".to_owned());
        }
        if host_key.is_some_and(|key| !key.starts_with("SHA256:")) {
            return Err("a fingerprint starts with SHA256:, as `ssh-keygen -lf` prints it".to_owned());
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
    fn changes_of_a_machine_are_classified() {
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
    fn a_replacement_is_parsed_from_a_name_and_a_fingerprint() {
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

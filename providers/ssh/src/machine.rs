//! The identity of a machine: what distinguishes it from another machine at the same address.

use moorfast_engine::model::{Machine, Node, Transport};

use crate::script::Section;

/// Shell that reports the machine-id and the boot-id, also to a user without any rights.
pub(crate) const READ: &str = r#"
X=; { read -r X < /etc/machine-id; } 2>/dev/null || true; field machine_id "$X"
X=; { read -r X < /proc/sys/kernel/random/boot_id; } 2>/dev/null || true; field boot_id "$X"
"#;

/// Returns the machine behind `node` with these host keys and the answer of [`READ`].
pub(crate) fn observe(node: &Node, host_keys: Vec<String>, answer: Option<&Section>) -> Machine {
    let text = |name: &str| answer?.field(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let address = match node.transport {
        Transport::Local => "this machine".to_owned(),
        Transport::Ssh => node.address.clone(),
    };
    Machine { host_keys, machine_id: text("machine_id"), boot_id: text("boot_id"), address }
}

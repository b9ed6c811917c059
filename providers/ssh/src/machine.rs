//! The identity of a machine: what distinguishes it from another machine at the same address.

use moorfast_engine::model::{Machine, Node, Transport};

use crate::script::Section;

pub(crate) const READ: &str = include_str!("machine.sh");

/// Returns the boot-id of the machine that runs moorfast.
pub(crate) fn own_boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Returns the machine behind `node` with these host keys and the answer of [`READ`].
pub(crate) fn observe(node: &Node, host_keys: Vec<String>, answer: Option<&Section>) -> Machine {
    let text = |name: &str| answer?.field(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let address = match node.transport {
        Transport::Local => "this machine".to_owned(),
        Transport::Ssh => node.address.clone(),
    };
    Machine { host_keys, machine_id: text("machine_id"), boot_id: text("boot_id"), address }
}

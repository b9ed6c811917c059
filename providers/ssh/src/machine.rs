//! What a machine says of itself, by which it is told from another one.

use moorfast_engine::model::{Machine, Node, Transport};

use crate::script::Section;

/// Shell that tells it, also to a login without any rights.
pub(crate) const LOOK: &str = r#"
printf %s "$(cat /etc/machine-id 2>/dev/null || true)" | blob machine_id
printf %s "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || true)" | blob boot_id
"#;

/// The machine behind `node`, which showed these host keys and said this.
pub(crate) fn observe(node: &Node, host_keys: Vec<String>, said: Option<&Section>) -> Machine {
    let text = |name: &str| said?.text(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let address = match node.transport {
        Transport::Local => "this machine".to_owned(),
        Transport::Ssh => node.address.clone(),
    };
    Machine { host_keys, machine_id: text("machine_id"), boot_id: text("boot_id"), address }
}

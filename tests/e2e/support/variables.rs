//! The variables of `examples/kubelet` for a testbed.

use super::testbed::{Facts, Node};

/// Returns the variables as TOML. `user` logs in to the nodes.
pub fn kubelet_variables(facts: &Facts, user: &str) -> String {
    worker_variables(facts, &facts.nodes, user)
}

/// Returns the variables with only these nodes.
pub fn worker_variables(facts: &Facts, nodes: &[Node], user: &str) -> String {
    let control_plane = &facts.control_plane;
    let folder = control_plane.binaries["kubelet"].parent().expect("a binary is in a folder").display();
    let mut text = format!(
        r#"
kube_apiserver     = "{server}"
ssh_user           = "{user}"
ssh_identity_file  = "{identity}"
kubeconfig         = "{kubeconfig}"
binaries           = "{folder}"
ca                 = "{ca}"
admin              = {{ certificate = "{admin_cert}", key = "{admin_key}" }}
controller_manager = {{ certificate = "{cm_cert}", key = "{cm_key}" }}
"#,
        server = control_plane.server,
        identity = facts.ssh.identity_file.display(),
        kubeconfig = control_plane.kubeconfig.display(),
        ca = control_plane.ca.display(),
        admin_cert = control_plane.admin.cert.display(),
        admin_key = control_plane.admin.key.display(),
        cm_cert = control_plane.controller_manager.cert.display(),
        cm_key = control_plane.controller_manager.key.display(),
    );
    for (node, subnet) in nodes.iter().zip(1..) {
        text.push_str(&format!(
            "\n[nodes.{}]\naddress = \"{}\"\nhost_key = \"{}\"\npod_subnet = {subnet}\n",
            node.name,
            node.address,
            node.pin()
        ));
    }
    text
}

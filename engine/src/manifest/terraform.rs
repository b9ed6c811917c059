//! Hints for blocks and arguments of Terraform that have another name in moorfast.

/// Arguments of a resource.
const KEYS: [(&str, &str); 5] = [
    ("count", "use `for_each` for one instance per element of a list or map, and `on` for one instance per node"),
    ("provisioner", "use the resource `ssh_exec` to run a command on a node; `restart_on` runs it again after changes"),
    ("connection", "set the connection of a node in `[nodes.NAME]`"),
    ("dynamic", "set the attribute to a list or a map: `[for x in var.list : { … }]`"),
    ("triggers", "name the resources that trigger it in `restart_on` or `lifecycle.replace_triggered_by`"),
];

/// Top-level blocks.
const TABLES: [(&str, &str); 6] = [
    ("terraform", "set the location of the state in `[backend.TYPE]`; the providers are built in"),
    ("variable", "write variables as `[variables.NAME]`"),
    ("output", "write outputs as `[outputs.NAME]`"),
    ("provider", "write providers as `[providers.NAME]`"),
    ("workspace", "write environments as `[environments.NAME]` and choose one with `--env NAME`"),
    ("test", "use `[check.NAME]`, which is tested after each apply"),
];

/// Returns the hint for an argument of a Terraform resource.
pub(crate) fn key(name: &str) -> Option<String> {
    found(&KEYS, name)
}

/// Returns the hint for a top-level block of Terraform.
pub(crate) fn table(name: &str) -> Option<String> {
    found(&TABLES, name)
}

fn found(hints: &[(&str, &str)], name: &str) -> Option<String> {
    hints.iter().find(|(known, _)| *known == name).map(|(_, hint)| (*hint).to_owned())
}

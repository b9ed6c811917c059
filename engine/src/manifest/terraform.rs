//! Names of Terraform's language that moorfast spells in another way.

/// Keys of a resource.
const KEYS: [(&str, &str); 5] = [
    ("count", "`for_each` makes one instance for each element of a list or a map, `on` one for each node"),
    ("provisioner", "`ssh_exec` runs a command on a node; `restart_on` says after which changes"),
    ("connection", "`[nodes.NAME]` says how a node is reached"),
    ("dynamic", "an attribute takes a list or a map as its value: `[for x in var.list : { … }]`"),
    ("triggers", "`restart_on` and `lifecycle.replace_triggered_by` name the resources that trigger it"),
];

/// Tables of a manifest.
const TABLES: [(&str, &str); 6] = [
    ("terraform", "`[backend.*]` says where the state is; the providers are built in"),
    ("variable", "variables are written as `[variables.NAME]`"),
    ("output", "outputs are written as `[outputs.NAME]`"),
    ("provider", "providers are written as `[providers.NAME]`"),
    ("workspace", "each environment has a folder of its own, or `--state DIR` and `--var-file FILE` of its own"),
    ("test", "`[check.NAME]` is tested after each apply"),
];

/// Returns what takes the place of a key of Terraform's resources.
pub(crate) fn key(name: &str) -> Option<String> {
    found(&KEYS, name)
}

/// Returns what takes the place of a table of Terraform's.
pub(crate) fn table(name: &str) -> Option<String> {
    found(&TABLES, name)
}

fn found(hints: &[(&str, &str)], name: &str) -> Option<String> {
    hints.iter().find(|(known, _)| *known == name).map(|(_, hint)| (*hint).to_owned())
}

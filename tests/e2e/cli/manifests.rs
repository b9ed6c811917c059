//! Manifests that several tests use.

/// A manifest with a directory, a file and a file with a secret.
pub const PAIR: &str = r#"
[variables.greeting]
type    = "string"
default = "hello"

[variables.password]
type      = "string"
default   = "s3cr3t-of-the-test"
sensitive = true

[nodes.here]
transport = "local"
roles     = ["all"]

[resource.ssh_directory.out]
on   = "here"
path = "${path.root}/out"

[resource.ssh_file.greeting]
on      = "here"
path    = "${ssh_directory.out.path}/greeting"
content = "first line\nsecond line\n${var.greeting}\n"

[resource.ssh_file.secret]
on      = "here"
path    = "${ssh_directory.out.path}/secret"
content = "${var.password}"
mode    = "0600"

[outputs.path]
value = '${ssh_file.greeting["here"].path}'

[outputs.password]
value = "${var.password}"
sensitive = true
"#;

/// The second node of [`TWO`].
pub const NB: &str = "[nodes.nb]\ntransport = \"local\"";

/// A file on each of two nodes.
pub const TWO: &str = r#"
[nodes.na]
transport = "local"

[nodes.nb]
transport = "local"

[resource.ssh_file.a]
on      = "all"
path    = "${path.root}/${node.name}"
content = "a"
"#;

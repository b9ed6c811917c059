//! No secret is visible: not in the state, a plan, a log, a command line, an environment, or anything else that the process writes, except to its target.

use std::fs::{self, File};
use std::process::Command;

use crate::support::folder::Folder;
use crate::support::processes::Watch;
use crate::support::testbed::Testbed;

const PASSWORD: &str = "wrong-horse-battery-staple";
const FILED: &str = "content-of-a-secret-file-4711";
const IN_OBJECT: &str = "value-of-a-secret-object-0815";
/// What the age file of the engine's tests contains.
const ENCRYPTED: &str = "correct-horse-battery-staple";
const AGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/src/expression/tests/age");

#[test]
fn no_secret_is_visible() {
    let Some(testbed) = Testbed::up("secrets", 1) else { return };
    let moorfast = Folder::new(&manifest(&testbed));
    // moorfast itself has the password in its environment. Its child processes must not.
    let variable = ("MOORFAST_VAR_password", PASSWORD);
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    let scratch = tempfile::tempdir().unwrap();
    let watch = Watch::start();
    for (name, arguments) in [
        ("plan", &["plan", "--out", "first.plan"][..]),
        ("apply", &["apply", "first.plan"]),
        ("plan again", &["plan", "--detailed-exitcode"]),
        ("drift", &["drift"]),
        ("show", &["show", "--json"]),
        ("output", &["output"]),
    ] {
        let trace = scratch.path().join(name);
        let writes = ["-f", "-yy", "-s", "10000000", "-e", "trace=write,pwrite64,writev,pwritev,sendto,sendmsg"];
        let mut command = moorfast.traced(&writes, &trace, arguments);
        let (stdout, stderr) = (scratch.path().join(format!("{name}.out")), scratch.path().join(format!("{name}.err")));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        command.env(variable.0, variable.1).env("MOORFAST_LOG", "trace");
        command.env("MOORFAST_AGE_IDENTITY", format!("{AGE}/ssh_key"));
        let status = command.status().expect("strace is installed: apt-get install strace");
        let said = fs::read_to_string(&stderr).unwrap();
        assert!(status.success(), "{name}: {}", said.lines().rev().take(30).collect::<Vec<_>>().join("\n"));
        places.push((format!("the writes of {name}"), to_files(&fs::read_to_string(&trace).unwrap()).into_bytes()));
        places.push((format!("the output of {name}"), fs::read(&stdout).unwrap()));
        places.push((format!("the log of {name}"), said.into_bytes()));
    }
    let seen = watch.end();
    places.push(("ps".to_owned(), seen.command_lines.iter().cloned().collect::<Vec<_>>().join("\n").into_bytes()));
    for (process, environment) in &seen.environments {
        // strace, moorfast and its threads have the password from this test.
        if !process.contains("strace") && !process.contains("debug/moorfast") {
            // The manifest gives it to the program that its script runs on the node, in this variable.
            let given =
                if process.contains("touch /srv/used") { format!("PASSWORD={PASSWORD}") } else { String::new() };
            let others = environment.split(' ').filter(|variable| *variable != given).collect::<Vec<_>>().join(" ");
            places.push((format!("the environment of {process}"), others.into_bytes()));
        }
    }
    for file in moorfast.files().into_iter().filter(|file| !file.ends_with("main.toml")) {
        places.push((file.display().to_string(), fs::read(&file).unwrap()));
    }
    let secrets = secrets(&testbed);
    for (place, bytes) in &places {
        for (name, secret) in &secrets {
            let at = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            let around = at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at + secret.len()]));
            assert!(at.is_none(), "{place} contains {name}: {around:?}");
        }
    }
    // The same search finds the secrets in their target files.
    let node = &testbed.facts.nodes[0].name;
    let file = testbed.on(node, "cat /srv/kubeconfig /srv/filed /srv/password /srv/local");
    for wanted in ["the bootstrap token", "the sensitive file", "the password", "the age file", "the command's output"]
    {
        assert!(
            secrets.iter().any(|(name, secret)| name == wanted && file.contains(secret.as_str())),
            "{wanted} in {file}"
        );
    }
    assert!(seen.command_lines.iter().any(|line| line.contains("ssh")), "the processes were watched");
    assert!(seen.environments.iter().any(|(process, _)| process.contains("ssh")), "the environments were searched");
    let searched = |part: &str| places.iter().any(|(place, bytes)| place.contains(part) && !bytes.is_empty());
    assert!(searched("state.db") && searched("first.plan") && searched("the writes of apply"));
}

/// Returns the writes to anything but sockets and pipes, which lead to ssh, to the API server and to this test.
fn to_files(trace: &str) -> String {
    let elsewhere = |line: &&str| {
        let call = line.split_once('(').map(|(_, rest)| rest).unwrap_or_default();
        let descriptor = call.split_once('<').map(|(_, rest)| rest).unwrap_or_default();
        !["TCP", "UDP", "UNIX", "socket:", "pipe:", "NETLINK"].iter().any(|kind| descriptor.starts_with(kind))
    };
    trace.lines().filter(elsewhere).collect::<Vec<_>>().join("\n")
}

/// Returns the name and the value of each secret.
fn secrets(testbed: &Testbed) -> Vec<(String, String)> {
    let mut secrets: Vec<(String, String)> = [
        ("the password", PASSWORD),
        ("the sensitive file", FILED),
        ("the Secret object", IN_OBJECT),
        ("the age file", ENCRYPTED),
        ("the command's output", &PASSWORD.to_uppercase()),
        ("the password in base64", &encoded(PASSWORD)),
        ("the Secret object in base64", &encoded(IN_OBJECT)),
    ]
    .map(|(name, secret)| (name.to_owned(), secret.to_owned()))
    .into();
    let template = "{{range .items}}{{if eq .type \"bootstrap.kubernetes.io/token\"}}\
        {{index .data \"token-secret\" | base64decode}} {{index .data \"token-secret\"}}{{end}}{{end}}";
    let token = testbed.kubectl(&["get", "secrets", "-n", "kube-system", "-o", &format!("go-template={template}")]);
    let (token, in_base64) = token.split_once(' ').unwrap();
    secrets.push(("the bootstrap token".to_owned(), token.to_owned()));
    secrets.push(("the bootstrap token in base64".to_owned(), in_base64.to_owned()));
    let keys = [&testbed.facts.ssh.identity_file, &testbed.facts.control_plane.admin.key];
    for path in keys {
        let key = fs::read_to_string(path).unwrap();
        let line = key.lines().nth(2).or(key.lines().nth(1)).unwrap();
        secrets.push((format!("the key {}", path.display()), line.to_owned()));
    }
    secrets
}

/// Returns the text in base64, without the end, which depends on the bytes that follow.
fn encoded(text: &str) -> String {
    let output = Command::new("sh").args(["-c", &format!("printf %s {text} | base64 -w0")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text[..text.len() - 4].to_owned()
}

fn manifest(testbed: &Testbed) -> String {
    let node = &testbed.facts.nodes[0];
    let control_plane = &testbed.facts.control_plane;
    format!(
        r#"
[variables.password]
type      = "string"
sensitive = true

{pinned}
{cluster}

[resource.kubernetes_bootstrap_token.kubelet]
on   = "all"
node = "secret-{name}"

[resource.kubernetes_kubeconfig.bootstrap]
on                    = "all"
cluster               = "kubernetes"
server                = "{server}"
certificate_authority = '${{file("{ca}")}}'
user                  = "kubelet-bootstrap"
context               = "default"
token                 = "${{kubernetes_bootstrap_token.kubelet.token}}"

[resource.ssh_file.kubeconfig]
on      = "all"
path    = "/srv/kubeconfig"
content = "${{kubernetes_kubeconfig.bootstrap.content}}"
mode    = "0600"

[resource.ssh_file.password]
on      = "all"
path    = "/srv/password"
content = "password: ${{var.password}}"

[resource.ssh_file.filed]
on        = "all"
path      = "/srv/filed"
content   = "{FILED}"
sensitive = true

[data.local_command.upper]
command = ["tr", "a-z", "A-Z"]
stdin   = "${{var.password}}"

[resource.ssh_file.local]
on      = "all"
path    = "/srv/local"
content = '${{data.local_command.upper.result}} ${{age_decrypt(file("{AGE}/encrypted"))}}'

[resource.ssh_exec.uses]
on          = "all"
script      = 'test -n "$PASSWORD" && touch /srv/used'
environment = {{ PASSWORD = "${{var.password}}" }}
creates     = "/srv/used"

[resource.kubernetes_object.secret.manifest]
apiVersion = "v1"
kind       = "Secret"
metadata   = {{ name = "hidden", namespace = "default" }}
stringData = {{ value = "{IN_OBJECT}", password = "${{var.password}}" }}

[outputs.password]
value     = "${{var.password}}"
sensitive = true
"#,
        name = node.name,
        pinned = testbed.facts.node_block(node, "ops"),
        cluster = testbed.facts.cluster_block(),
        server = control_plane.server,
        ca = control_plane.ca.display(),
    )
}

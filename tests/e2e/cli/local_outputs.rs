//! `data.local_outputs`: the outputs of another site, which is only read.

use crate::support::folder::Folder;

const NETWORK: &str = r#"
[outputs.subnets]
value = { a = "10.0.1.0/24", b = "10.0.2.0/24" }

[outputs.mtu]
value = 9000

[outputs.token]
value     = "correct-horse-battery-staple"
sensitive = true
"#;

/// Returns a folder with a site that reads the outputs of `network/`.
fn reader(arguments: &str) -> Folder {
    let data = format!("[data.local_outputs.network]\n{arguments}\n");
    let folder = Folder::new(&format!("{data}[outputs.read]\nvalue = \"${{data.local_outputs.network.outputs}}\"\n"));
    folder.write("network/main.toml", NETWORK);
    folder
}

const STATE: &str = "state = \"network/.moorfast\"";

#[test]
fn the_outputs_of_another_site_are_read() {
    let folder = reader(STATE);
    folder.expect(1, &["plan"]).complains("the state in network/.moorfast does not exist").complains("main.toml:2:");
    assert!(!folder.path("network/.moorfast").exists(), "nothing is created");
    folder.expect(0, &["-C", "network", "apply", "--auto-approve"]);
    let before = std::fs::read(folder.path("network/.moorfast/state.db")).unwrap();
    folder.expect(0, &["apply", "--auto-approve"]);
    let outputs: serde_json::Value = serde_json::from_str(&folder.expect(0, &["output", "--json"]).stdout).unwrap();
    let expected = serde_json::json!({ "mtu": 9000, "subnets": { "a": "10.0.1.0/24", "b": "10.0.2.0/24" } });
    assert_eq!(outputs["read"]["value"], expected, "without the sensitive output");
    assert_eq!(std::fs::read(folder.path("network/.moorfast/state.db")).unwrap(), before);
}

#[test]
fn names_select_outputs_that_must_be_readable() {
    let with = |names: &str| {
        let folder = reader(&format!("{STATE}\nnames = {names}"));
        folder.expect(0, &["-C", "network", "apply", "--auto-approve"]);
        folder
    };
    let missing = with("[\"mtu\", \"vlan\"]").expect(1, &["plan"]);
    missing
        .complains("there is no output `vlan` in the state in network/.moorfast")
        .complains("its outputs are `mtu`, `subnets`, `token`");
    let sensitive = with("[\"token\"]").expect(1, &["plan"]);
    sensitive.complains("the output `token` is sensitive, so its value is not in the state");
    // A saved plan is stale only if one of these outputs changed.
    let folder = with("[\"mtu\"]");
    folder.expect(0, &["plan", "--out", "reviewed.plan"]);
    folder.edit("network/main.toml", "10.0.2.0", "10.0.3.0");
    folder.expect(0, &["-C", "network", "apply", "--auto-approve"]);
    folder.expect(0, &["apply", "reviewed.plan"]);
    folder.expect(0, &["plan", "--out", "reviewed.plan"]);
    folder.edit("network/main.toml", "9000", "1500");
    folder.expect(0, &["-C", "network", "apply", "--auto-approve"]);
    let stale = folder.expect(4, &["apply", "reviewed.plan"]);
    stale.complains("`data.local_outputs.network` changed since the plan was made");
}

#[test]
fn a_site_is_read_while_another_run_holds_its_lock() {
    let folder = reader(STATE);
    let waits =
        "[nodes.l]\ntransport = \"local\"\n[resource.ssh_exec.e]\non = \"l\"\nscript = \"cat '${path.root}/gate'\"\n";
    folder.expect(0, &["-C", "network", "apply", "--auto-approve"]);
    folder.write("network/main.toml", &format!("{NETWORK}{waits}"));
    assert_eq!(folder.shell("mkfifo network/gate").code, 0);
    let running = folder.start(&["-C", "network", "apply", "--auto-approve"]);
    // The FIFO opens when the script runs, with the lock held.
    let gate = std::fs::File::options().write(true).open(folder.path("network/gate")).unwrap();
    folder.expect(0, &["plan"]).says("9000");
    drop(gate);
    assert_eq!(running.end().code, 0);
}

#[test]
fn invalid_arguments_are_errors() {
    for (arguments, says) in [
        ("", "exactly one of `state` and `backend` must be set"),
        ("state = \"a\"\nbackend = { s3 = { bucket = \"b\" } }", "exactly one of `state` and `backend`"),
        ("backend = { s3 = { buckt = \"b\" } }", "unknown field `buckt`"),
        ("backend = { etcd = {} }", "unknown variant `etcd`"),
        ("backend = { sqlite = {} }", "write the folder of the state in `state`"),
        ("backend = {}", "`backend` must have one member"),
    ] {
        reader(arguments).expect(1, &["validate"]).complains(says).complains("main.toml:");
    }
    let untrusted = reader(STATE).expect(1, &["plan", "--untrusted"]);
    untrusted.complains("`plan --untrusted` reads no state of another site");
}

//! The binary of the example knows its provider everywhere: in the version, the JSON Schema, validation and runs.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs the binary in a folder. Returns whether it succeeded, and what it printed.
fn moorfast(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorfast-local"));
    let output = command.current_dir(folder).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_provider_is_known_to_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let (succeeded, text) = moorfast(folder.path(), arguments);
        assert!(succeeded, "{arguments:?}: {text}");
        text
    };
    assert!(run(&["version"]).contains("ssh, kubernetes, local"));
    assert!(run(&["schema"]).contains("local_file"));

    let manifest = |path: &str| format!("[resource.local_file.x]\npath = {path:?}\ncontent = \"token: hidden\"\n");
    fs::write(folder.path().join("main.toml"), manifest("out/kubeconfig")).unwrap();
    run(&["validate"]);
    let plan = run(&["plan"]);
    assert!(plan.contains("local_file.x") && !plan.contains("hidden"), "{plan}");
    run(&["apply", "--auto-approve"]);
    assert_eq!(fs::read_to_string(folder.path().join("out/kubeconfig")).unwrap(), "token: hidden");
    run(&["state", "rm", "local_file.x"]);
    run(&["import", "local_file.x"]);
    run(&["drift"]);
    run(&["destroy", "--auto-approve"]);
    assert!(!folder.path().join("out/kubeconfig").exists());

    fs::write(folder.path().join("main.toml"), manifest("out/")).unwrap();
    let (succeeded, text) = moorfast(folder.path(), &["validate"]);
    assert!(!succeeded && text.contains("`path` is not the path of a file"), "{text}");
}

//! The binary of the example knows its provider everywhere: in the version, the JSON Schema, validation and runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs the binary in a folder. Returns whether it succeeded, and what it printed.
fn moorfast(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorfast-example"));
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
    assert!(run(&["version"]).contains("ssh, kubernetes, example"));
    assert!(run(&["schema"]).contains("example_file"));

    let main = folder.path().join("main.toml");
    let manifest = include_str!("../manifest/main.toml");
    fs::write(&main, manifest).unwrap();
    let variable = ["-var", "token=hidden"];
    let with_variable = |arguments: &[&str]| run(&[arguments, &variable[..]].concat());
    with_variable(&["validate"]);
    let plan = with_variable(&["plan"]);
    assert!(plan.contains("example_file.kubeconfig") && !plan.contains("hidden"), "{plan}");
    with_variable(&["apply", "--auto-approve"]);
    let written = fs::read_to_string(folder.path().join("out/kubeconfig")).unwrap();
    assert!(written.contains("hidden"), "{written}");
    run(&["state", "rm", "example_file.kubeconfig"]);
    with_variable(&["import", "example_file.kubeconfig"]);
    with_variable(&["drift"]);
    with_variable(&["destroy", "--auto-approve"]);
    assert!(!folder.path().join("out/kubeconfig").exists());

    fs::write(&main, manifest.replace("out/kubeconfig", "out/")).unwrap();
    let (succeeded, text) = moorfast(folder.path(), &["validate", "-var", "token=hidden"]);
    assert!(!succeeded && text.contains("`path` is not the path of a file"), "{text}");
}

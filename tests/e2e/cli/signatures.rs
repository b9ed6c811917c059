//! Signed plans: only trusted keys are accepted, and `ssh-keygen` verifies the signatures.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

/// Creates a manifest, and the keys of a reviewer and of two others.
fn folder() -> Folder {
    let folder = Folder::new(PAIR);
    for (name, passphrase) in [("reviewer", ""), ("somebody", ""), ("locked", "open sesame")] {
        keygen(&folder, &["-q", "-t", "ed25519", "-N", passphrase, "-C", &format!("{name}@example"), "-f", name]);
    }
    folder
}

fn keygen(folder: &Folder, arguments: &[&str]) {
    let status = Command::new("ssh-keygen").args(arguments).current_dir(folder.path("")).status().unwrap();
    assert!(status.success(), "ssh-keygen {arguments:?}");
}

fn signed() -> Folder {
    let folder = folder();
    folder.expect(0, &["plan", "-out=saved", "-sign-key=reviewer"]);
    folder
}

fn envelope(folder: &Folder) -> serde_json::Value {
    serde_json::from_str(&folder.read("saved")).unwrap()
}

#[test]
fn a_signed_plan_is_applied_for_a_trusted_key() {
    let folder = signed();
    folder.expect(0, &["show", "saved", "--verify", "reviewer.pub"]).complains("(reviewer@example)").says("3 to add");
    folder.expect(0, &["apply", "saved", "--require-signature", "reviewer.pub"]).complains("is signed by SHA256:");
    assert!(folder.read("out/greeting").ends_with("hello\n"));
}

#[test]
fn all_keys_of_a_folder_are_trusted() {
    let folder = signed();
    folder.write("trusted/somebody.pub", &folder.read("somebody.pub"));
    folder.expect(1, &["show", "saved", "--verify", "trusted"]).complains("is not among the 1 trusted keys of trusted");
    folder.write("trusted/reviewer.pub", &folder.read("reviewer.pub"));
    folder.expect(0, &["show", "saved", "--verify", "trusted"]);
}

#[test]
fn a_plan_without_a_valid_trusted_signature_is_refused() {
    let folder = signed();
    let good = folder.read("saved");
    let refused = |keys: &str, message: &str| {
        folder.expect(1, &["apply", "saved", "--require-signature", keys]).complains(message);
        assert!(!folder.path("out").exists());
    };
    refused("somebody.pub", "is not among the 1 trusted keys of somebody.pub");
    refused("reviewer", "reviewer is not an OpenSSH public key");
    refused("nothing.pub", "cannot read the key nothing.pub");
    folder.write("empty/README", "no keys");
    refused("empty", "empty has no public key");

    // A signature of another plan.
    let signature = envelope(&folder)["signature"].clone();
    folder.expect(0, &["plan", "-out=saved", "-var=greeting=other"]);
    refused("reviewer.pub", "the plan is not signed");
    let mut other = envelope(&folder);
    other["signature"] = signature;
    folder.write("saved", &other.to_string());
    refused("reviewer.pub", "does not match this plan");
    other["signature"] = "-----BEGIN SSH SIGNATURE-----".into();
    folder.write("saved", &other.to_string());
    refused("reviewer.pub", "the signature of the plan is damaged");
    // An edited plan has another digest.
    folder.write("saved", &good.replace("\"0600\"", "\"0666\""));
    refused("reviewer.pub", "was modified after it was written");
}

#[test]
fn a_signature_for_another_purpose_does_not_count() {
    let folder = signed();
    let mut plan = envelope(&folder);
    folder.write("digest", plan["digest"].as_str().unwrap());
    keygen(&folder, &["-q", "-Y", "sign", "-f", "reviewer", "-n", "file", "digest"]);
    plan["signature"] = folder.read("digest.sig").into();
    folder.write("saved", &plan.to_string());
    folder.expect(1, &["show", "saved", "--verify", "reviewer.pub"]).complains("does not match this plan");
}

#[test]
fn a_key_with_a_passphrase_signs() {
    let folder = folder();
    let plan = ["plan", "-out=saved", "-sign-key=locked"];
    folder.expect(1, &plan).complains("MOORFAST_SIGN_KEY_PASSPHRASE is not set");
    let with = |passphrase: &str| {
        folder.command(&plan).env("MOORFAST_SIGN_KEY_PASSPHRASE", passphrase).output().unwrap().status.success()
    };
    assert!(!with("wrong") && !folder.path("saved").exists());
    assert!(with("open sesame"));
    folder.expect(0, &["show", "saved", "--verify", "locked.pub"]);
}

#[test]
fn a_signature_needs_a_plan_file_and_a_valid_key() {
    let folder = folder();
    folder.expect(1, &["plan", "-sign-key=reviewer"]).complains("--out");
    folder.expect(1, &["plan", "-out=saved", "-sign-key=main.toml"]).complains("is not an OpenSSH private key");
    keygen(&folder, &["-q", "-t", "ecdsa", "-N", "", "-f", "ecdsa"]);
    folder.expect(1, &["plan", "-out=saved", "-sign-key=ecdsa"]).complains("ecdsa is not an OpenSSH");
    assert!(!folder.path("saved").exists());
}

#[test]
fn ssh_keygen_verifies_the_signature_as_the_documentation_says() {
    let folder = signed();
    let plan = envelope(&folder);
    folder.write("saved.sig", plan["signature"].as_str().unwrap());
    folder.write("allowed_signers", &format!("reviewer@example {}", folder.read("reviewer.pub")));
    let arguments = "-Y verify -f allowed_signers -I reviewer@example -n moorfast-plan@v1 -s saved.sig";
    let verified = |digest: &str| {
        let mut command = Command::new("ssh-keygen");
        command.args(arguments.split(' ')).current_dir(folder.path("")).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(digest.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    assert!(verified(plan["digest"].as_str().unwrap()));
    assert!(!verified("blake3:00"));
}

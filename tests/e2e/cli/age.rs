//! `age_decrypt`: the identities of the environment, and errors that show no secret.

use crate::support::folder::{Folder, Run};

/// Texts and keys that the programs `age` and `ssh-keygen` wrote.
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/src/expression/tests/age");
const SECRET: &str = "correct-horse-battery-staple";
const MANIFEST: &str = r#"
[nodes.l]
transport = "local"

[resource.ssh_file.f]
on      = "l"
path    = "${path.root}/out"
content = '${age_decrypt(file("encrypted"))}'

[outputs.o]
value     = '${age_decrypt(file("encrypted"))}'
sensitive = true
"#;

fn folder() -> Folder {
    let folder = Folder::new(MANIFEST);
    folder.write("encrypted", &std::fs::read_to_string(format!("{KEYS}/encrypted")).unwrap());
    folder
}

fn with_identity(folder: &Folder, name: &str, arguments: &[&str]) -> Run {
    folder.start_in(arguments, &[("MOORFAST_AGE_IDENTITY", &format!("{KEYS}/{name}"))]).end()
}

#[test]
fn a_text_is_decrypted_and_stored_nowhere_else() {
    let folder = folder();
    let plan = with_identity(&folder, "identity", &["plan", "--full", "--out", "reviewed.plan"]);
    let apply = with_identity(&folder, "ssh_key", &["apply", "reviewed.plan"]);
    assert_eq!((plan.code, apply.code), (0, 0), "{plan}{apply}");
    assert_eq!(folder.read("out"), SECRET);
    let again = with_identity(&folder, "identity", &["plan", "--detailed-exitcode"]);
    assert_eq!(again.code, 0, "{again}");
    for run in [&plan, &apply, &again] {
        assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{run}");
    }
    for file in folder.files().iter().filter(|file| !file.ends_with("out")) {
        assert!(!String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains(SECRET), "{}", file.display());
    }
}

#[test]
fn a_decrypted_text_that_is_a_part_of_another_is_not_shown() {
    let folder = folder();
    folder.write(
        "main.toml",
        "[nodes.l]\ntransport = \"local\"\n[resource.ssh_exec.e]\non = \"l\"\n\
         script = \"echo no token $${A#Bearer } >&2; exit 3\"\nenvironment = { A = 'Bearer ${age_decrypt(file(\"encrypted\"))}' }\n",
    );
    let run = with_identity(&folder, "identity", &["apply", "--auto-approve"]);
    run.complains("no token (sensitive)");
    assert!(!run.stderr.contains(SECRET), "{run}");
}

#[test]
fn a_failure_names_its_cause_and_shows_no_secret() {
    let folder = folder();
    let fails = |identity: &str, says: &str| {
        let run = with_identity(&folder, identity, &["validate"]);
        assert_eq!(run.code, 1, "{run}");
        run.complains(says).complains("main.toml:");
        assert!(!run.stderr.contains("AGE-SECRET") && !run.stderr.contains(SECRET), "{run}");
    };
    fails("other_identity", "the text is not encrypted for an identity in");
    fails("none", "cannot read the identity file");
    fails("ssh_key_with_passphrase", "it is protected by a passphrase");
    fails("encrypted_bytes", "it is encrypted with a passphrase");
    folder.expect(1, &["plan"]).complains("`age_decrypt` has no identity: set MOORFAST_AGE_IDENTITY");
    let run = with_identity(&folder, "identity", &["plan", "--untrusted"]);
    run.complains("`plan --untrusted` decrypts nothing with the identities of this machine");
    let encrypted = folder.read("encrypted");
    folder.write("encrypted", &encrypted.replace("8EVl5j6n", "8EVl5j6m"));
    fails("identity", "the text is damaged");
    folder.write("encrypted", &encrypted[..300]);
    fails("identity", "this is not a complete age file");
    folder.write("encrypted", SECRET);
    fails("identity", "this is neither an armored age file");
}

#[test]
fn a_validation_needs_no_identity() {
    let folder = folder();
    folder.expect(0, &["validate"]).says("Success!");
    // In a module, and with the type of the result.
    folder.write(
        "m/main.toml",
        "[variables.key]\n[locals]\nsecret = '${age_decrypt(var.key)}'\n[outputs.o]\nvalue = \"${local.secret}\"\n",
    );
    folder.write(
        "main.toml",
        "[nodes.l]\ntransport = \"local\"\n[module.m]\nsource = \"m\"\ninputs = { key = '${file(\"encrypted\")}' }\n\
         [resource.ssh_file.f]\non = \"l\"\npath = \"/x\"\ncontent = \"${module.m.o}\"\n",
    );
    folder.expect(0, &["validate"]).says("Success!");
    folder.expect(1, &["plan"]).complains("`age_decrypt` has no identity");
    folder.edit("main.toml", "\"/x\"\n", "\"/x\"\nfor_each = \"${module.m.o}\"\n");
    folder.expect(1, &["validate"]).complains("`for_each` is sensitive");
    folder.write("encrypted", SECRET);
    folder.expect(1, &["validate"]).complains("neither an armored age file");
}

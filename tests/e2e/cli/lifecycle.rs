//! A manifest from init to destroy, and the commands of the state.

use std::fs;
use std::process::Stdio;

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;
use crate::support::testbed::is_required;

#[test]
fn the_starter_manifest_runs_as_it_is() {
    let folder = Folder::empty();
    folder.expect(1, &["plan"]).complains("cannot find a manifest in").complains("moorfast init");
    folder.expect(0, &["init"]).says("Created");
    let schema = folder.read("main.toml").lines().next().unwrap().strip_prefix("#:schema ./").unwrap().to_owned();
    assert_eq!(folder.read(&schema), folder.expect(0, &["schema"]).stdout);
    folder.expect(1, &["init"]).complains("the file exists");
    folder.expect(0, &["validate"]).says("The manifest is valid");
    folder.expect(0, &["fmt", "-check"]);
    folder.expect(0, &["apply", "-auto-approve"]).says("Apply complete! Resources: 2 added, 0 changed, 0 destroyed.");
    assert_eq!(folder.read("out/motd"), "hello from moorfast, on here\n");
}

#[test]
fn no_error_contains_a_sensitive_attribute() {
    for attribute in ["owner", "group"] {
        let folder = Folder::new(&format!(
            "[nodes.here]\ntransport = \"local\"\n[variables.s]\ntype = \"string\"\nsensitive = true\ndefault = \"HUSHHUSH\"\n\
             [resource.ssh_file.f]\non = \"here\"\npath = \"${{path.root}}/out\"\ncontent = \"x\"\n{attribute} = \"${{var.s}}\"\n"
        ));
        let run = folder.expect(1, &["apply", "-auto-approve"]);
        run.complains("(sensitive)");
        assert!(!run.stderr.contains("HUSH") && !run.stdout.contains("HUSH"), "{}{}", run.stdout, run.stderr);
    }
}

#[test]
fn no_error_contains_a_part_of_a_sensitive_value() {
    for (source, secret) in [
        ("[variables.s]\ntype = \"string\"\nsensitive = true\ndefault = \"HUSHHUSH\"", "var.s"),
        (
            "[data.local_command.s]\ncommand = [\"echo\", \"HUSHHUSH\"]\nsensitive = true",
            "trimspace(data.local_command.s.result)",
        ),
        ("[locals]\ns = \"${sensitive('HUSHHUSH')}\"", "local.s"),
        ("[locals]\ns = \"${split(' ', sensitive('HUSHHUSH and more'))}\"", "local.s[0]"),
        (
            "[locals]\ns = \"${{ for x in [1] : 'key: ${sensitive('HUSHHUSH')}' => x }}\"",
            "trimprefix(keys(local.s)[0], \"key: \")",
        ),
    ] {
        let folder = Folder::new(&format!(
            "[nodes.here]\ntransport = \"local\"\n{}\n\
             [resource.ssh_exec.e]\non = \"here\"\ncommand = [\"sh\", \"-c\", \"echo the token $(echo $A | cut -d' ' -f2) is wrong >&2; exit 3\"]\n\
             environment = {{ A = 'Bearer ${{{secret}}}' }}\n",
            source.replace('\'', "\\\"")
        ));
        let run = folder.expect(1, &["apply", "-auto-approve"]);
        run.complains("the token (sensitive) is wrong");
        assert!(!run.stderr.contains("HUSH"), "{}", run.stderr);
    }
}

#[test]
fn no_error_contains_a_secret_that_an_earlier_operation_wrote() {
    let folder = Folder::new(
        "[nodes.here]\ntransport = \"local\"\n[locals]\nsettings = '{\"token\": \"HUSHHUSH\"}'\n\
         [resource.ssh_file.token]\non = \"here\"\npath = \"${path.root}/token\"\ncontent = \"${jsondecode(sensitive(local.settings)).token}\"\n\
         [resource.ssh_exec.check]\non = \"here\"\nscript = \"echo the token $(cat '${path.root}/token') is wrong >&2; exit 3\"\n\
         depends_on = [\"ssh_file.token\"]\n",
    );
    for _ in ["the first run writes the file", "the second run only reads it"] {
        let run = folder.expect(1, &["apply", "-auto-approve"]);
        run.complains("the token (sensitive) is wrong");
        assert!(!run.stderr.contains("HUSH"), "{}", run.stderr);
    }
}

#[test]
fn a_secret_that_is_an_ordinary_word_is_redacted_only_as_a_value() {
    let folder = Folder::new(
        "[nodes.here]\ntransport = \"local\"\n[variables.s]\ntype = \"string\"\nsensitive = true\ndefault = \"not\"\n\
         [resource.ssh_exec.e]\non = \"here\"\ncommand = [\"sh\", \"-c\", \"echo \\\"cannot log in, not valid: '$A'\\\" >&2; exit 3\"]\n\
         environment = { A = \"${var.s}\" }\n",
    );
    let run = folder.expect(1, &["apply", "-auto-approve"]);
    run.complains("cannot run the command").complains("cannot log in, not valid: '(sensitive)'");
}

#[test]
fn a_second_plan_is_empty_and_a_second_apply_changes_nothing() {
    let folder = Folder::new(PAIR);
    folder.expect(2, &["plan", "-detailed-exitcode"]).says("Plan: 3 to add, 0 to change, 0 to destroy.");
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["plan", "-detailed-exitcode"]).says("No changes. The real objects match the manifest.");
    folder.expect(0, &["apply", "-auto-approve"]).says("Resources: 0 added, 0 changed, 0 destroyed.");
}

#[test]
fn a_changed_variable_changes_one_line() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    let plan = folder.expect(0, &["plan", "-var", "greeting=good day"]);
    plan.says("Plan: 0 to add, 1 to change, 0 to destroy.").says("- hello").says("+ good day");
    folder.expect(0, &["apply", "-auto-approve", "-var=greeting=good day"]).says("0 added, 1 changed, 0 destroyed");
    assert_eq!(folder.read("out/greeting"), "first line\nsecond line\ngood day\n");
}

#[test]
fn drift_is_detected_and_reverted() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["drift"]).says("In sync.");
    folder.write("out/greeting", "by hand\n");
    fs::remove_file(folder.path("out/secret")).unwrap();
    let drift = folder.expect(2, &["drift"]);
    drift
        .says("ssh_file.greeting[\"here\"] has changed")
        .says("ssh_file.secret[\"here\"] is gone")
        .says("Drift: 2 objects");
    folder
        .expect(0, &["plan"])
        .says("since the last apply, corrected by this plan")
        .says("because it was changed outside moorfast");
    folder.expect(0, &["apply", "-auto-approve"]).says("1 added, 1 changed, 0 destroyed");
    folder.expect(0, &["drift"]);
}

#[test]
fn a_node_that_does_not_answer_is_neither_in_sync_nor_drifted() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    let pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let away = format!("address = \"127.0.0.1\"\nport = 1\nhost_key = \"{pin}\"");
    folder.write("main.toml", &PAIR.replace("transport = \"local\"", &away));
    let drift = folder.expect(5, &["drift"]);
    drift.says("3 objects could not be").complains("cannot connect to here").complains("main.toml:");
    folder.expect(1, &["plan"]).complains("could not be read or planned; nothing was changed");
    for refresh in [["plan", "-refresh-only"].as_slice(), &["apply", "-refresh-only", "-auto-approve"]] {
        folder.expect(1, refresh).complains("cannot connect to here").complains("3 objects could not be read");
    }
    folder.write("main.toml", PAIR);
    folder.expect(0, &["drift"]);
}

#[test]
fn destroy_leaves_nothing_behind() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["destroy", "-auto-approve"]).says("Destroy complete! Resources: 3 destroyed.");
    assert_eq!(folder.names(), [".moorfast", "main.toml"]);
    folder.expect(1, &["state", "list"]).complains("it has no objects and no outputs");
    folder.expect(0, &["plan", "-destroy"]).says("The state has no objects to destroy.");
}

#[test]
fn a_removed_resource_is_destroyed() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    let start = PAIR.find("[resource.ssh_file.secret]").unwrap();
    let end = PAIR.find("[outputs.path]").unwrap();
    folder.write("main.toml", &format!("{}{}", &PAIR[..start], &PAIR[end..]));
    folder.expect(0, &["plan"]).says("will be destroyed").says("because it is no longer in the manifest");
    folder.expect(0, &["apply", "-auto-approve"]).says("0 added, 0 changed, 1 destroyed");
    assert!(!folder.path("out/secret").exists());
}

#[test]
fn a_part_can_be_planned() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["plan", "-target", "ssh_directory.out"]).says("Plan: 1 to add").says("this plan is partial");
    folder.expect(0, &["plan", "-exclude=ssh_file.secret"]).says("Plan: 2 to add");
    folder.expect(1, &["plan", "-target", "ssh_file.greetign"]).complains("ssh_file.greeting");
    folder.expect(0, &["apply", "-auto-approve"]);
    let replace = folder.expect(0, &["plan", "-replace", "ssh_file.greeting[\"here\"]"]);
    replace.says("must be replaced").says("Plan: 1 to add, 0 to change, 1 to destroy.");
}

#[test]
fn a_failure_skips_only_its_dependants() {
    let manifest = format!(
        "{PAIR}
[resource.ssh_exec.fails]
on      = \"here\"
script  = \"echo this is why >&2; test -e '${{path.root}}/repaired'\"
unless  = \"test -e '${{path.root}}/done'\"

[resource.ssh_file.after]
on         = \"here\"
path       = \"${{path.root}}/done\"
content    = \"done\"
depends_on = [\"ssh_exec.fails\"]
"
    );
    let folder = Folder::new(&manifest);
    let run = folder.expect(1, &["apply", "-auto-approve"]);
    run.complains("this is why").complains("Skipped, because ssh_exec.fails[\"here\"] did not succeed:");
    run.complains("  ssh_file.after[\"here\"]").says("Apply incomplete. Resources: 3 added");
    assert_eq!(folder.read("out/greeting"), "first line\nsecond line\nhello\n");
    folder.write("repaired", "");
    folder.expect(0, &["apply", "-auto-approve"]).says("Resources: 2 added");
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}

#[test]
fn the_state_can_be_read_and_changed() {
    let folder = Folder::new(PAIR);
    folder.expect(1, &["state", "pull"]).complains("cannot find the state in");
    folder.expect(0, &["apply", "-auto-approve"]);
    assert_eq!(folder.expect(0, &["state", "list", "ssh_file.greeting"]).stdout, "ssh_file.greeting[\"here\"]\n");
    folder.expect(0, &["state", "show", "ssh_file.greeting[\"here\"]"]).says("| second line");
    folder.expect(1, &["state", "show", "ssh_file.none"]).complains("moorfast state list");
    folder.expect(0, &["state", "mv", "ssh_file.secret[\"here\"]", "ssh_file.hidden[\"here\"]"]).says("Moved");
    folder.expect(1, &["state", "rm", "ssh_file.secret"]).complains("has no resource");
    folder.expect(0, &["state", "mv", "ssh_file.hidden[\"here\"]", "ssh_file.secret[\"here\"]"]);
    folder.expect(0, &["plan", "-detailed-exitcode"]);
    folder.expect(0, &["state", "rm", "ssh_file.greeting"]).says("Removed ssh_file.greeting[\"here\"] from the state");
    folder.expect(0, &["plan"]).says("will be adopted").says("1 to adopt");
    folder.expect(0, &["import", "ssh_file.greeting[\"here\"]"]).says("Imported");
    folder.expect(0, &["plan", "-detailed-exitcode"]);
    folder.expect(0, &["state", "history"]).says("apply").says("state mv").says("3 added");
    folder.expect(1, &["state", "unlock", "nobody"]).complains("not locked");
    let state: serde_json::Value = serde_json::from_str(&folder.expect(0, &["state", "pull"]).stdout).unwrap();
    assert_eq!(state["resources"].as_array().unwrap().len(), 3);
}

#[test]
fn commands_of_the_state_accept_a_resource_with_all_instances() {
    let folder = Folder::new(
        r#"
[nodes.here]
transport = "local"

[resource.ssh_file.site]
on       = "here"
for_each = ["blog", "shop"]
path     = "${path.root}/${each.key}"
content  = "x"
"#,
    );
    let instances = "its instances are `ssh_file.site[\"here/blog\"]`, `ssh_file.site[\"here/shop\"]`";
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["state", "show", "ssh_file.site"]).says("site[\"here/blog\"]").says("site[\"here/shop\"]");
    let shown: serde_json::Value =
        serde_json::from_str(&folder.expect(0, &["state", "show", "-json", "ssh_file.site"]).stdout).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 2);
    for command in [["state", "show", "ssh_file.site[\"shop\"]"], ["state", "rm", "ssh_file.site[\"shop\"]"]] {
        folder.expect(1, &command).complains("the state has no resource").complains(instances);
    }
    folder.expect(1, &["state", "mv", "ssh_file.site[\"shop\"]", "ssh_file.page"]).complains(instances);
    folder.expect(1, &["state", "mv", "ssh_file.site", "ssh_file.page[\"x\"]"]).complains("cannot move 2 instances");
    folder.expect(1, &["state", "mv", "ssh_file.site", "ssh_link.site"]).complains("the types differ");
    folder.expect(1, &["state", "mv", "ssh_file.sit", "ssh_file.page"]).complains("moorfast state list");
    let near = "similar addresses are `ssh_file.site[\"here/shop\"]`, `ssh_file.site[\"here/blog\"]`";
    folder.expect(1, &["state", "mv", "ssh_file.sit[\"here/shop\"]", "ssh_file.x"]).complains(near);
    folder.expect(1, &["state", "rm", "module.m.ssh_file.site"]).complains("did you mean `ssh_file.site`?");
    folder.expect(0, &["state", "mv", "ssh_file.site", "ssh_file.page"]).says("to ssh_file.page[\"here/shop\"]");
    folder.expect(0, &["state", "rm", "ssh_file.page"]).says("Removed ssh_file.page[\"here/blog\"] from the state");
    folder.expect(1, &["import", "ssh_file.site[\"shop\"]"]).complains("ssh_file.site[\"here/shop\"]");
    let imported = folder.expect(0, &["import", "ssh_file.site"]);
    imported.says("Imported ssh_file.site[\"here/blog\"].").says("Imported ssh_file.site[\"here/shop\"].");
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}

#[test]
fn a_folder_is_renamed_with_the_files_in_it_in_one_apply() {
    let manifest = |folder: &str| {
        format!(
            "[nodes.here]\ntransport = \"local\"\n[resource.ssh_directory.d]\non = \"here\"\npath = '${{path.root}}/{folder}'\n\
             [resource.ssh_file.f]\non = \"here\"\nfor_each = [\"a\", \"b\"]\npath = '${{ssh_directory.d.path}}/${{each.key}}'\ncontent = \"x\"\n"
        )
    };
    let folder = Folder::new(&manifest("one"));
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("main.toml", &manifest("two"));
    folder.expect(0, &["apply", "-auto-approve"]).says("Resources: 3 added, 0 changed, 3 destroyed");
    assert_eq!(folder.read("two/a") + &folder.read("two/b"), "xx");
    assert!(!folder.path("one").exists());
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}

#[test]
fn outputs_are_printed_unless_sensitive() {
    let folder = Folder::new(PAIR);
    let path = folder.path("out/greeting").display().to_string();
    folder.expect(0, &["apply", "-auto-approve"]).says("password = (sensitive value)");
    folder.expect(0, &["output"]).says("password = (sensitive value)").says(&path);
    assert_eq!(folder.expect(0, &["output", "-raw", "path"]).stdout, path);
    folder.expect(1, &["output", "password"]).complains("sensitive values are not stored");
    folder.expect(1, &["output", "nothing"]).complains("the state has no output `nothing`");
    let json: serde_json::Value = serde_json::from_str(&folder.expect(0, &["output", "-json"]).stdout).unwrap();
    assert_eq!(json["password"]["sensitive"], true);
}

#[test]
fn a_secret_is_only_in_its_target() {
    let folder = Folder::new(&PAIR.replace("default   = \"s3cr3t-of-the-test\"\n", ""));
    let secret = "s3cr3t-of-the-test";
    let mut said = String::new();
    for arguments in [
        ["plan", "-out=saved", "-log=trace"].as_slice(),
        &["show", "saved"],
        &["show", "-json", "saved"],
        &["apply", "-auto-approve", "-log=trace"],
        &["plan", "-json"],
        &["show"],
        &["state", "pull"],
        &["output", "-json"],
        &["destroy", "-auto-approve", "-json"],
    ] {
        let mut command = folder.command(arguments);
        let output = command.env("MOORFAST_VAR_password", secret).output().unwrap();
        assert!(output.status.success(), "{arguments:?} {}", String::from_utf8_lossy(&output.stderr));
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        if arguments[0] == "apply" {
            assert_eq!(folder.read("out/secret"), secret);
        }
        for file in folder.files().iter().filter(|path| !path.ends_with("out/secret")) {
            let bytes = fs::read(file).unwrap();
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "the secret is in {}", file.display());
        }
    }
    assert!(!said.contains(secret), "{said}");
}

#[test]
fn a_secret_stays_sensitive_until_it_is_overwritten() {
    let secret = "s3cr3t-of-the-test";
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    // The manifest does not contain the secret any more.
    folder.write("main.toml", &PAIR.replace("content = \"${var.password}\"", "content = \"see the vault\""));
    for (code, arguments) in [
        (0, ["plan", "-out=saved"].as_slice()),
        (0, &["show", "saved"]),
        (0, &["plan", "-json"]),
        (0, &["drift"]),
        (0, &["drift", "-json"]),
        (0, &["apply", "-refresh-only", "-auto-approve"]),
        (0, &["show", "-json"]),
        (0, &["apply", "-auto-approve"]),
    ] {
        let run = folder.expect(code, arguments);
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{run:?}");
        for file in folder.files().iter().filter(|path| !path.ends_with("out/secret") && !path.ends_with("main.toml")) {
            let bytes = fs::read(file).unwrap();
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "the secret is in {} after {arguments:?}", file.display());
        }
    }
    assert_eq!(folder.read("out/secret"), "see the vault");
    // The new content is not sensitive.
    folder.write("out/secret", "changed by hand");
    folder.expect(2, &["drift"]).says("changed by hand");
}

#[test]
fn the_quickstart_runs() {
    let source = format!("{}/examples/quickstart", env!("CARGO_MANIFEST_DIR"));
    let folder = Folder::empty();
    for name in ["main.toml", "templates/service.conf.tpl"] {
        folder.write(name, &fs::read_to_string(format!("{source}/{name}")).unwrap());
    }
    folder.expect(0, &["fmt", "-check"]);
    folder.expect(0, &["apply", "-auto-approve"]).says("Apply complete! Resources: 10 added");
    folder.expect(0, &["plan", "-detailed-exitcode"]);
    folder.expect(1, &["plan", "-var", "port=80"]).complains("port must be between 1024 and 65535.");
    folder.expect(0, &["plan", "-var", "port=9090"]).says("will be updated in place on 2 nodes: web1, web2");
    folder.expect(0, &["destroy", "-auto-approve"]);
}

#[test]
fn a_command_reads_the_manifest_once() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "--auto-approve"]);
    for arguments in [&["plan"][..], &["drift"], &["validate"], &["output"], &["apply", "--auto-approve"]] {
        let trace = folder.path("trace");
        let mut strace = folder.traced(&["-f", "-e", "trace=openat"], &trace, arguments);
        if let Err(error) = strace.stdout(Stdio::null()).stderr(Stdio::null()).status() {
            assert!(!is_required(), "strace: {error}");
            eprintln!("skipped: strace: {error}");
            return;
        }
        let reads = fs::read_to_string(&trace).unwrap().matches("main.toml").count();
        assert_eq!(reads, 1, "{arguments:?}");
    }
}

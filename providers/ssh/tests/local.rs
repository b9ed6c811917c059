//! The resource types that need no root and no systemd, on the local transport in a temporary folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot continue has failed"
)]

mod common;
#[path = "local/file_blocks.rs"]
mod file_blocks;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{World, attributes, create, resource_type};
use moorfast_engine::model::Value;
use moorfast_engine::provider::{Class, Consequence, Operation, OperationAction, ProposedAction, Provider};
use moorfast_ssh::SshProvider;
use serde_json::json;

#[tokio::test]
async fn a_file_is_created_changed_and_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("it's a $file.txt");
    let desired = |content: &str, mode: &str| attributes(json!({ "path": path, "content": content, "mode": mode }));

    let applied = world.apply("ssh_file", desired("one\n", "0640")).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(applied.attributes["content"], Value::from("one\n"));
    assert_eq!(applied.attributes["size"], Value::from(4));

    let proposal = world.plan("ssh_file", desired("two\n", "640")).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Update);
    assert_eq!(proposal.planned["content"], Value::from("two\n"));
    world.apply("ssh_file", desired("two\n", "600")).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");

    world.destroy("ssh_file").await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no temporary file is left");

    // Commands on this machine do not count as work over ssh.
    let counts = world.connection.statistics();
    assert_eq!(counts[..2], [("ssh connections", 0), ("ssh execs", 0)]);
    assert!(counts[2].0 == "local execs" && counts[2].1 > 0, "{counts:?}");
}

#[tokio::test]
async fn a_big_binary_source_is_uploaded_over_a_running_program() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("sleeper");
    // cp writes the program, not this process: a child that another thread forks at that moment would inherit the write descriptor, and the kernel would refuse to
    // run the program (ETXTBSY).
    assert!(Command::new("cp").arg("/bin/sleep").arg(&path).status().unwrap().success());
    let mut running = Command::new(&path).arg("60").spawn().unwrap();
    let bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.path().join("big.bin"), &bytes).unwrap();

    let applied =
        world.apply("ssh_file", attributes(json!({ "path": path, "source": "big.bin", "mode": "0755" }))).await;
    running.kill().unwrap();
    running.wait().unwrap();
    let applied = applied.unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(applied.attributes["size"], Value::from(5_000_000));
    assert!(!applied.attributes.contains_key("content"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
}

#[tokio::test]
async fn binary_content_and_empty_content() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("f");
    world.apply("ssh_file", attributes(json!({ "path": path, "content_base64": "AAH/" }))).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0, 1, 255]);
    world.apply("ssh_file", attributes(json!({ "path": path, "content": "" }))).await.unwrap();
    assert!(fs::read(&path).unwrap().is_empty());
}

#[tokio::test]
async fn a_secret_is_sensitive_in_plan_read_and_record() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "path": dir.path().join("token"), "mode": "0600" }));
    desired.insert("content".to_owned(), Value::from("s3cr3t-token").sensitive());
    let proposal = world.plan("ssh_file", desired.clone()).await.unwrap();
    assert!(!format!("{proposal:?}").contains("s3cr3t"));
    assert!(proposal.planned["sha256"].is_sensitive());
    let applied = world.apply("ssh_file", desired.clone()).await.unwrap();
    for name in ["content", "sha256", "size"] {
        assert!(proposal.planned[name].is_sensitive() && applied.attributes[name].is_sensitive(), "{name}");
    }
    let by_record = world.read("ssh_file", None).await.unwrap().unwrap();
    assert!(by_record.attributes["content"].is_sensitive() && by_record.attributes["sha256"].is_sensitive());

    desired.insert("content".to_owned(), Value::Retained);
    assert_eq!(world.plan("ssh_file", desired.clone()).await.unwrap().action, ProposedAction::NoOp);
    desired.insert("mode".to_owned(), Value::from("0640"));
    let applied = world.apply("ssh_file", desired.clone()).await.unwrap();
    assert_eq!(applied.attributes["content"], Value::from("s3cr3t-token").sensitive());
    fs::remove_file(dir.path().join("token")).unwrap();
    let lost = world.plan("ssh_file", desired).await.unwrap_err();
    assert!(lost.summary.contains("cannot be created again"), "{lost}");
}

#[tokio::test]
async fn content_of_unknown_secrecy_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("token");
    fs::write(&path, "s3cr3t-token").unwrap();
    let desired = |content: Value| {
        let mut desired = attributes(json!({ "path": path }));
        desired.insert("content".to_owned(), content);
        desired
    };
    let early = world.read("ssh_file", Some(desired(Value::Unknown))).await.unwrap().unwrap();
    assert!(!early.attributes.contains_key("content"), "nobody knows yet whether it may be read");
    assert!(early.attributes["sha256"].is_sensitive());

    // Whether it turns out to be a secret or not, the existing content is the desired one.
    for content in [Value::from("s3cr3t-token"), Value::from("s3cr3t-token").sensitive()] {
        let proposal = world.plan_over("ssh_file", desired(content), Some(early.clone())).await.unwrap();
        assert_eq!(proposal.action, ProposedAction::NoOp, "{:?}", proposal.planned);
    }

    // The record decides while the manifest is unknown.
    for (content, hides) in [(Value::from("one").sensitive(), true), (Value::from("two"), false)] {
        world.apply("ssh_file", desired(content)).await.unwrap();
        let seen = world.read("ssh_file", Some(desired(Value::Unknown))).await.unwrap().unwrap();
        assert_eq!([&seen.attributes["content"], &seen.attributes["sha256"]].map(Value::is_sensitive), [hides; 2]);
    }
}

#[tokio::test]
async fn a_retained_secret_too_big_to_be_read_stays_sensitive() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "path": dir.path().join("big"), "mode": "0600" }));
    desired.insert("content".to_owned(), Value::from("x".repeat(100_000)).sensitive());
    world.apply("ssh_file", desired.clone()).await.unwrap();
    desired.insert("content".to_owned(), Value::Retained);
    desired.insert("mode".to_owned(), Value::from("0640"));
    let applied = world.apply("ssh_file", desired).await.unwrap();
    assert!(applied.attributes["sha256"].is_sensitive());
}

#[tokio::test]
async fn a_backup_is_kept_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("motd");
    fs::write(&path, "from before").unwrap();
    let desired = |content: &str| attributes(json!({ "path": path, "content": content, "backup": true }));
    let applied = world.apply("ssh_file", desired("ours")).await.unwrap();
    assert!(applied.notes[0].starts_with("the previous file is kept as"), "{:?}", applied.notes);
    world.apply("ssh_file", desired("ours too")).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "a file of moorfast needs no backup");
    world.destroy("ssh_file").await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "from before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_is_created_again_has_no_recorded_backup() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("motd");
    fs::write(&path, "from before").unwrap();
    let desired = json!({ "path": path, "content": "ours", "backup": true });
    let applied = world.apply("ssh_file", attributes(desired.clone())).await.unwrap();
    assert!(applied.private["backup"].is_string());
    fs::remove_file(&path).unwrap();
    let again = world.operation("ssh_file", create("ssh_file", desired), None, Vec::new());
    let again = Operation { recorded: None, ..again };
    let made = world.operate_all(&[again]).await.pop().unwrap().unwrap();
    assert!(made.private.is_null(), "{}", made.private);
}

#[tokio::test]
async fn a_refused_content_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("conf");
    let desired = |content: &str| {
        attributes(json!({ "path": path, "content": content, "validate": ["grep", "-q", "^ok", "%s"] }))
    };
    world.apply("ssh_file", desired("ok 1")).await.unwrap();
    let error = world.apply("ssh_file", desired("bad")).await.unwrap_err();
    assert_eq!(error.class, Class::Invalid);
    assert_eq!(
        error.summary,
        format!("cannot change {} on here: the validation command refuses the new content", path.display())
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "ok 1");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_invalid_validation_command_fails_only_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let file = |name: &str, validate: serde_json::Value| {
        let action =
            create("ssh_file", json!({ "path": dir.path().join(name), "content": name, "validate": validate }));
        world.operation("ssh_file", action, None, Vec::new())
    };
    let seen = dir.path().join("seen");
    let operations = [
        file("unclosed", json!("test \"%s")),
        file("bracket", json!("true ) || true")),
        file("missing", json!(["no-such-program", "%s"])),
        file(
            "words",
            json!(["sh", "-c", "cat \"$1\" > \"$2\"; echo \"$3\" >> \"$2\"", "sh", "%s", seen, "it's 100%% or 100%"]),
        ),
        file("line", json!("A=%s; grep -q line \"$A\" # it's the last")),
    ];
    let outcomes = world.operate_all(&operations).await;
    assert_eq!(world.execs(), 1);
    for outcome in &outcomes[..3] {
        assert_eq!(outcome.as_ref().unwrap_err().class, Class::Invalid, "{outcome:?}");
    }
    for outcome in &outcomes[3..] {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    assert_eq!(fs::read_to_string(&seen).unwrap(), "wordsit's 100%% or 100%\n");
}

#[tokio::test]
async fn missing_parents_are_created_and_links_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("a/b/c");
    let error = world.apply("ssh_file", attributes(json!({ "path": path, "content": "x" }))).await.unwrap_err();
    assert!(error.summary.contains("does not exist (create it with ssh_directory"), "{error}");
    world.apply("ssh_file", attributes(json!({ "path": path, "content": "x", "parents": true }))).await.unwrap();

    world.clear_records();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    let desired = attributes(json!({ "path": link, "content": "y" }));
    let proposal = world.plan("ssh_file", desired.clone()).await.unwrap();
    assert_eq!(proposal.notes, ["there is a symbolic link at the path"]);
    world.apply("ssh_file", desired).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "x", "the target of the link is not touched");
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
}

#[tokio::test]
async fn a_link_that_appears_after_the_read_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let (path, other) = (dir.path().join("f"), dir.path().join("other"));
    fs::write(&other, "x").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let desired = |mode: &str| json!({ "path": path, "content": "x", "mode": mode });
    world.apply("ssh_file", attributes(desired("0640"))).await.unwrap();
    let observed = world.read("ssh_file", None).await.unwrap();
    fs::remove_file(&path).unwrap();
    symlink(&other, &path).unwrap();
    let change = OperationAction::Update(attributes(desired("0666")));
    let error = world.operate("ssh_file", change, observed, Vec::new()).await.unwrap_err();
    assert_eq!(error.class, Class::Conflict, "{error}");
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o7777, 0o600);
}

/// The owner of a directory can replace a temporary file in it by a link at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_file_is_never_written_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let (folder, other) = (dir.path().join("folder"), dir.path().join("other"));
    fs::create_dir(&folder).unwrap();
    fs::write(&other, "x").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let link = folder.join("link");
            while !over.load(Ordering::Relaxed) {
                let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
                for name in names.filter(|name| name.display().to_string().contains(".moorfast-")) {
                    symlink(&other, &link).unwrap();
                    fs::rename(&link, name).unwrap();
                }
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for i in 0..50 {
                    let desired = json!({ "path": folder.join("f"), "content": format!("{i}"), "mode": "0666" });
                    // The operation may succeed or not: the content of that directory belongs to its owner.
                    let _ = world.operate("ssh_file", create("ssh_file", desired), None, Vec::new()).await;
                }
            });
        });
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_to_string(&other).unwrap(), "x");
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn a_directory_with_content_is_removed_only_with_force_destroy() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("x/data");
    world.apply("ssh_directory", attributes(json!({ "path": path, "mode": "0750" }))).await.unwrap();
    fs::write(path.join("precious"), "").unwrap();
    let error = world.destroy("ssh_directory").await.unwrap_err();
    assert_eq!(error.class, Class::Conflict);
    assert_eq!(error.detail, ["precious"]);
    world.apply("ssh_directory", attributes(json!({ "path": path, "force_destroy": true }))).await.unwrap();
    world.destroy("ssh_directory").await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn links_replace_links_only() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("current");
    world.apply("ssh_link", attributes(json!({ "path": path, "target": "v 1" }))).await.unwrap();
    world.apply("ssh_link", attributes(json!({ "path": path, "target": "v 2" }))).await.unwrap();
    assert_eq!(fs::read_link(&path).unwrap().to_str(), Some("v 2"));
    world.destroy("ssh_link").await.unwrap();
    fs::write(&path, "a file").unwrap();
    let error = world.apply("ssh_link", attributes(json!({ "path": path, "target": "v 3" }))).await.unwrap_err();
    assert_eq!(error.class, Class::Conflict);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn a_moved_path_is_a_replacement_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let desired = |name: &str| attributes(json!({ "path": dir.path().join(name), "content": "x" }));
    world.apply("ssh_file", desired("old")).await.unwrap();
    let proposal = world.plan("ssh_file", desired("new")).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Replace(vec!["path".to_owned()]));
    world.destroy("ssh_file").await.unwrap();
    assert!(!dir.path().join("old").exists());
}

#[tokio::test]
async fn an_unknown_path_reads_the_recorded_object() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "path": dir.path().join("f"), "content": "x" }));
    world.apply("ssh_file", desired.clone()).await.unwrap();
    desired.insert("path".to_owned(), Value::Unknown);
    let proposal = world.plan("ssh_file", desired).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Replace(vec!["path".to_owned()]));
}

#[tokio::test]
async fn unknown_content_is_planned_as_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "path": dir.path().join("f"), "content": "x" }));
    world.apply("ssh_file", desired.clone()).await.unwrap();
    desired.insert("content".to_owned(), Value::Unknown.sensitive());
    let proposal = world.plan("ssh_file", desired).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Update);
    assert!(proposal.planned["content"].is_unknown() && proposal.planned["content"].is_sensitive());
}

#[tokio::test]
async fn commands_run_on_creation_change_trigger_and_destroy() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let log = dir.path().join("log");
    let runs = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    let desired = |version: i64| {
        attributes(json!({
            "script": format!("echo ran >> '{}'; echo done; echo \"$NAME\" >&2", log.display()),
            "environment": { "NAME": "it's me" },
            "rerun_when": { "version": version },
            "on_destroy": ["rm", "-f", log],
        }))
    };
    let applied = world.apply("ssh_exec", desired(1)).await.unwrap();
    assert_eq!(applied.attributes["stdout"], Value::from("done\n"));
    assert_eq!(applied.attributes["exit_code"], Value::from(0));
    assert_eq!(runs(), 1);
    world.apply("ssh_exec", desired(2)).await.unwrap();
    assert_eq!(runs(), 2);
    world.apply_with("ssh_exec", desired(2), vec![common::address("ssh_file")]).await.unwrap();
    assert_eq!(runs(), 3);
    world.destroy("ssh_exec").await.unwrap();
    assert!(!log.exists());
}

#[tokio::test]
async fn guards_decide_by_the_state_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let made = dir.path().join("made");
    let desired = attributes(json!({ "command": ["touch", made], "creates": made }));
    world.apply("ssh_exec", desired.clone()).await.unwrap();
    fs::remove_file(&made).unwrap();
    assert_eq!(world.plan("ssh_exec", desired).await.unwrap().action, ProposedAction::Create);
    world.clear_records();
    let idle = attributes(json!({ "command": ["touch", made], "only_if": "test -e /nowhere" }));
    assert_eq!(world.plan("ssh_exec", idle).await.unwrap().action, ProposedAction::NoOp);
    let needed = attributes(json!({ "command": ["touch", made], "unless": ["test", "-e", made] }));
    world.apply("ssh_exec", needed).await.unwrap();
    assert!(made.exists());
}

#[tokio::test]
async fn the_error_of_a_command_shows_its_output_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "script": "echo \"bad token $TOKEN\" >&2; exit 7" }));
    let token = Value::from("s3cr3t-token").sensitive();
    desired.insert("environment".to_owned(), Value::Map([("TOKEN".to_owned(), token)].into()));
    let error = world.apply("ssh_exec", desired).await.unwrap_err();
    assert!(error.summary.ends_with("exit status 7"), "{error}");
    assert_eq!(error.detail, ["bad token (sensitive)"]);
}

#[tokio::test]
async fn no_form_of_a_secret_is_in_the_output_of_a_failing_command() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let environment = |value: &str| Value::Map([("KEY".to_owned(), Value::from(value))].into());
    let cut = "(sensitive)";
    let cases = [
        // The map is sensitive as a whole.
        (environment("s3cr3t-token").sensitive(), "echo \"bad key $KEY\" >&2", vec!["bad key (sensitive)"]),
        // With the line break of a file, and as a command prints it.
        (environment("s3cr3t-token\n").sensitive(), "echo bad key $KEY >&2", vec!["bad key (sensitive)"]),
        (
            environment("-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n\nAg==\n").sensitive(),
            "echo \"$KEY\"; echo \"$KEY\" >&2",
            vec![cut, cut, ""],
        ),
        (
            environment("first line\nsecond line").sensitive(),
            "echo $KEY; echo \"$KEY\" >&2",
            vec![cut, "(sensitive) (sensitive)"],
        ),
        // A text that is no secret by itself stays readable.
        (
            environment("{\n  \"token\": \"s3cr3t\"\n}\n").sensitive(),
            "echo '{}'; echo \"$KEY\" | grep s3cr3t",
            vec!["{}", "  (sensitive)"],
        ),
        // One secret starts with another one.
        (
            Value::Map(["abc", "abc-def"].map(|key| (key.replace('-', "_"), Value::from(key).sensitive())).into()),
            "echo abc-def abc",
            vec!["(sensitive) (sensitive)"],
        ),
    ];
    for (environment, script, said) in cases {
        let mut desired = attributes(json!({ "script": format!("{script}; exit 7") }));
        desired.insert("environment".to_owned(), environment);
        let error = world.apply("ssh_exec", desired).await.unwrap_err();
        assert_eq!(error.detail, said, "{script}");
    }
}

#[tokio::test]
async fn a_command_that_times_out_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let pid = dir.path().join("pid");
    let script = format!("sh -c 'echo $$ > {}; exec sleep 600' & wait", pid.display());
    let error = world.apply("ssh_exec", attributes(json!({ "script": script, "timeout": "300ms" }))).await.unwrap_err();
    assert_eq!(error.class, Class::Timeout);
    let pid = fs::read_to_string(pid).unwrap();
    let process = format!("/proc/{}/stat", pid.trim());
    let gone = async {
        while fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the child is killed");
}

/// Returns whether the process with the pid in the file `pid` has ended.
fn has_ended(pid: &std::path::Path) -> bool {
    let pid = fs::read_to_string(pid).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn cancelling_ends_processes_in_other_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let pid = |name: &str| dir.path().join(name);
    let sleeper = |name: &str| format!("sh -c 'echo $$ > {}; exec sleep 600'", pid(name).display());
    let stubborn = format!("sh -c 'trap \"\" TERM; echo $$ > {}; sleep 600; sleep 600'", pid("stubborn").display());
    let script = [
        format!("setsid {} &", sleeper("session")),
        // A daemon: its parents have ended, and it has neither a terminal nor an open file of the script.
        format!(
            "setsid sh -c '( setsid {} </dev/null >/dev/null 2>&1 & ) &'",
            sleeper("daemon").replace('\'', "'\\''")
        ),
        format!("nohup {} </dev/null >/dev/null 2>&1 &", sleeper("nohup")),
        format!("env -i setsid {} &", sleeper("bare")),
        format!("setsid {stubborn} &"),
        "wait; sleep 600".to_owned(),
    ]
    .join("\n");
    let names = ["session", "daemon", "nohup", "bare", "stubborn"];
    let run = world.operate("ssh_exec", create("ssh_exec", json!({ "script": script })), None, Vec::new());
    let cancel = async {
        let all = || names.iter().all(|name| fs::read_to_string(pid(name)).is_ok_and(|text| text.ends_with('\n')));
        while !all() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(run, cancel);
    assert_eq!(outcome.unwrap_err().class, Class::Cancelled);
    for name in names {
        let gone = async {
            while !has_ended(&pid(name)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap_or_else(|_| panic!("{name} is still running"));
    }
}

#[tokio::test]
async fn a_background_process_of_a_successful_command_keeps_running() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let (pid, go, said) = (dir.path().join("pid"), dir.path().join("go"), dir.path().join("said"));
    let daemon = format!(
        "echo $$ > {}; echo began; while [ ! -e {} ]; do sleep 0.02; done; echo x; echo x >&2; echo $? > {}",
        pid.display(),
        go.display(),
        said.display()
    );
    let script = format!("setsid sh -c '{daemon}' &\nuntil [ -s {} ]; do sleep 0.01; done; echo done", pid.display());
    let applied = world.apply("ssh_exec", attributes(json!({ "script": script }))).await.unwrap();
    assert_eq!(applied.attributes["stdout"], Value::from("began\ndone\n"));
    fs::write(&go, "").unwrap();
    let ended = async {
        while !said.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the process can print after the command has ended");
}

#[tokio::test]
async fn the_first_line_of_a_script_names_its_interpreter() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let cases = [
        ("#!/bin/bash\nset -o pipefail\n[[ abc == a* ]] && echo yes", "yes\n"),
        ("#!/bin/bash -eu\nX=1; echo $-", "ehuB\n"),
        ("#!/usr/bin/env bash\necho ${BASH_VERSION:+bash} \"$#\"", "bash 0\n"),
        ("#!/usr/bin/env -S bash -u\necho \"it's $HOME\" | tr -d a-z/A-Z", "' \n"),
        ("#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }\n", "42\n"),
        ("#!/bin/sh\nexec 2>&1; echo 'ä\\0' | wc -c", "4\n"),
        ("exec 2>&1; printf sh", "sh"),
    ];
    for (script, stdout) in cases {
        let action = create("ssh_exec", json!({ "script": script }));
        match world.operate("ssh_exec", action, None, Vec::new()).await {
            Ok(applied) => assert_eq!(applied.attributes["stdout"], Value::from(stdout), "{script}"),
            Err(error) => panic!("{script}: {error:?}"),
        }
    }
    let absent = create("ssh_exec", json!({ "script": "#!/opt/no/such/python3\nprint(1)" }));
    let error = world.operate("ssh_exec", absent, None, Vec::new()).await.unwrap_err();
    assert_eq!(error.class, Class::Invalid);
    assert!(error.summary.ends_with("the interpreter /opt/no/such/python3 of the script does not exist"), "{error}");
    assert!(error.help.is_some_and(|help| help.contains("ssh_package")));
}

#[tokio::test]
async fn output_is_bounded_wherever_it_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let run = |script: &'static str| {
        world.operate("ssh_exec", create("ssh_exec", json!({ "script": script })), None, Vec::new())
    };
    let shown = |error: &moorfast_engine::provider::ProviderError| error.summary.len() + error.detail.join("\n").len();
    let long = [
        "head -c 20000000 /dev/zero | tr '\\0' x; exit 4",
        "head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 4",
        "yes | head -n 3000000; exit 4",
        "yes | head -n 3000000 >&2; exit 4",
        "yes äöü | tr -d '\\n' | head -c 3000000 >&2; exit 4",
    ];
    for script in long {
        let error = run(script).await.unwrap_err();
        assert!(shown(&error) <= 20 << 10, "{script}: {} bytes", shown(&error));
        assert!(error.summary.contains("exit status 4"), "{script}: {}", error.summary);
    }
    let error = run("seq 1 100000; echo the end; exit 4").await.unwrap_err();
    assert_eq!(error.detail.last().map(String::as_str), Some("the end"));
    let error = run("seq 1 100000 >&2; echo the end >&2; exit 4").await.unwrap_err();
    assert_eq!(error.detail.last().map(String::as_str), Some("the end"));
    let applied = run("seq 1 1000000").await.unwrap();
    assert_eq!(applied.attributes["stdout"].as_str().unwrap().len(), 16 << 10);
}

#[tokio::test]
async fn cancelling_ends_a_running_command() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let started = dir.path().join("started");
    let script = format!("touch {}; sleep 600", started.display());
    let run = world.operate("ssh_exec", create("ssh_exec", json!({ "script": script })), None, Vec::new());
    let cancel = async {
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(run, cancel);
    assert_eq!(outcome.unwrap_err().class, Class::Cancelled);
    let after = world.operate("ssh_exec", create("ssh_exec", json!({ "command": ["true"] })), None, Vec::new()).await;
    assert_eq!(after.unwrap_err().class, Class::Cancelled);
}

#[tokio::test]
async fn one_exec_reads_all_and_one_exec_writes_all() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = |i: usize| dir.path().join(format!("f{i}"));
    let mut operations: Vec<_> = (0..40)
        .map(|i| create("ssh_file", json!({ "path": path(i), "content": format!("{i}") })))
        .map(|action| world.operation("ssh_file", action, None, Vec::new()))
        .collect();
    let impossible = create("ssh_file", json!({ "path": dir.path().join("no/such/dir"), "content": "" }));
    operations.insert(20, world.operation("ssh_file", impossible, None, Vec::new()));
    let outcomes = world.operate_all(&operations).await;
    assert_eq!(world.execs(), 1);
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 40);
    assert!(outcomes[20].is_err(), "one failure does not stop the others");
    assert_eq!(fs::read_to_string(path(39)).unwrap(), "39");

    let requests: Vec<_> = operations
        .iter()
        .map(|operation| match &operation.action {
            OperationAction::Create(desired) => moorfast_engine::provider::ReadRequest {
                address: operation.address.clone(),
                resource_type: resource_type("ssh_file"),
                desired: Some(desired.clone()),
                recorded: None,
            },
            other => panic!("{other:?}"),
        })
        .collect();
    let read = world.connection.read(&world.target, &requests).await;
    assert_eq!(world.execs(), 2);
    assert_eq!(read.iter().filter(|r| matches!(r, Ok(Some(_)))).count(), 40);
    assert_eq!(read[20], Ok(None));
}

/// The folder of a test whose processes are counted.
const COUNTED: &str = "MOORFAST_TEST_COUNTED";

/// Returns the number of processes that the test `name` starts for its work in `dir`, if strace is installed to count them.
fn processes_of(name: &str, dir: &std::path::Path) -> Option<usize> {
    let trace = dir.with_extension("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o"]).arg(&trace);
    strace.arg(std::env::current_exe().unwrap()).args(["--exact", name]);
    let Ok(output) = strace.env(COUNTED, dir).output() else {
        assert!(std::env::var("MOORFAST_REQUIRE_TESTBED").as_deref() != Ok("1"), "strace is not installed");
        eprintln!("skipped: strace, which counts processes, is not installed");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = fs::read_to_string(&trace).unwrap();
    fs::remove_file(trace).unwrap();
    // The first one is the test itself.
    Some(text.lines().filter(|line| line.contains("execve(") && line.ends_with("= 0")).count() - 1)
}

/// Returns the attributes of 1,000 files in `dir`.
fn thousand_files(dir: &std::path::Path) -> impl Iterator<Item = serde_json::Value> {
    (0..1000).map(move |i| {
        json!({
            "path": dir.join(format!("f {i}")),
            "content": format!("{i}"),
            "owner": "0",
            "mode": if i % 2 == 0 { "0640" } else { "0644" },
        })
    })
}

/// Looks at 1,000 files, for `a_look_at_a_thousand_files_starts_few_processes`.
#[tokio::test]
async fn the_look_whose_processes_are_counted() {
    let Some(dir) = std::env::var_os(COUNTED).map(std::path::PathBuf::from) else { return };
    let world = World::local(&dir).await;
    let requests: Vec<_> = thousand_files(&dir)
        .map(|file| moorfast_engine::provider::ReadRequest {
            address: common::address("ssh_file"),
            resource_type: resource_type("ssh_file"),
            desired: Some(World::full("ssh_file", attributes(file))),
            recorded: None,
        })
        .collect();
    let read = world.connection.read(&world.target, &requests).await;
    assert_eq!(world.execs(), 1);
    for (i, read) in read.into_iter().enumerate() {
        assert_eq!(read.unwrap().unwrap().attributes["content"], Value::from(format!("{i}")));
    }
}

#[test]
fn a_look_at_a_thousand_files_starts_few_processes() {
    let dir = tempfile::tempdir().unwrap();
    (0..1000).for_each(|i| fs::write(dir.path().join(format!("f {i}")), format!("{i}")).unwrap());
    let Some(started) = processes_of("the_look_whose_processes_are_counted", dir.path()) else { return };
    assert!(started <= 20, "{started} processes");
}

/// Looks at the accounts and groups of this machine and at kernel modules, for `a_look_at_accounts_and_modules_starts_few_processes`.
#[tokio::test]
async fn the_accounts_and_modules_whose_processes_are_counted() {
    let Some(dir) = std::env::var_os(COUNTED).map(std::path::PathBuf::from) else { return };
    let world = World::local(&dir).await;
    let names = |file| {
        let text: String = fs::read_to_string(file).unwrap();
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect::<Vec<_>>()
    };
    let (users, groups) = (names("/etc/passwd"), names("/etc/group"));
    assert!(users.len() > 10 && groups.len() > 10);
    let modules: Vec<_> = (0..20).map(|i| format!("no_module_{i}")).collect();
    let of_type = |kind: &'static str, names: &[String]| {
        let request = |name: &String| moorfast_engine::provider::ReadRequest {
            address: common::address(kind),
            resource_type: resource_type(kind),
            desired: Some(World::full(kind, attributes(json!({ "name": name })))),
            recorded: None,
        };
        names.iter().map(request).collect::<Vec<_>>()
    };
    let requests =
        [of_type("ssh_user", &users), of_type("ssh_group", &groups), of_type("ssh_kernel_module", &modules)].concat();
    let read = world.connection.read(&world.target, &requests).await;
    assert_eq!(world.execs(), 1);
    let found = read.into_iter().filter(|read| read.as_ref().unwrap().is_some()).count();
    assert_eq!(found, users.len() + groups.len());
}

#[test]
fn a_look_at_accounts_and_modules_starts_few_processes() {
    let dir = tempfile::tempdir().unwrap();
    let name = "the_accounts_and_modules_whose_processes_are_counted";
    let Some(started) = processes_of(name, dir.path()) else { return };
    assert!(started <= 30, "{started} processes");
}

/// Writes 1,000 files, for `writing_a_thousand_files_starts_few_processes`.
#[tokio::test]
async fn the_writing_whose_processes_are_counted() {
    let Some(dir) = std::env::var_os(COUNTED).map(std::path::PathBuf::from) else { return };
    let world = World::local(&dir).await;
    let operation = |file| world.operation("ssh_file", create("ssh_file", file), None, Vec::new());
    let operations: Vec<_> = thousand_files(&dir).map(operation).collect();
    for outcome in world.operate_all(&operations).await {
        outcome.unwrap();
    }
    assert_eq!(world.execs(), 1);
}

#[test]
fn writing_a_thousand_files_starts_few_processes() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(started) = processes_of("the_writing_whose_processes_are_counted", dir.path()) else { return };
    assert!(started <= 24, "{started} processes");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1000, "no temporary file is left");
}

#[tokio::test]
async fn files_that_are_written_together_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let folder = dir.path().join("new");
    let names = ["-n", ".hidden", "it's", "two\nlines", "a b", "link", "directory"];
    let file = |name: &str, mode: &str| {
        let content = format!("-%s \\ '{name}'\n");
        let desired = json!({ "path": folder.join(name), "content": content, "mode": mode, "parents": true });
        world.operation("ssh_file", create("ssh_file", desired), None, Vec::new())
    };
    let mut operations: Vec<_> = names.iter().map(|name| file(name, "0640")).collect();
    operations.push(file("setuid", "4755"));
    fs::create_dir_all(folder.join("directory")).unwrap();
    fs::write(dir.path().join("other"), "x").unwrap();
    symlink(dir.path().join("other"), folder.join("link")).unwrap();
    let mut outcomes = world.operate_all(&operations).await;
    assert_eq!(world.execs(), 2, "the one that failed was tried alone");
    let error = outcomes.remove(6).unwrap_err();
    assert!(error.summary.ends_with("there is a directory at that path"), "{error}");
    outcomes.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    for (name, mode) in names[..6].iter().map(|name| (*name, 0o640)).chain([("setuid", 0o4755)]) {
        let path = folder.join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("-%s \\ '{name}'\n"));
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("other")).unwrap(), "x");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 8, "no temporary file is left");

    let mut refused = [file("a", "0600"), file("b", "0600")];
    let OperationAction::Create(desired) = &mut refused[0].action else { panic!() };
    desired.insert("owner".to_owned(), Value::from("mf-nobody"));
    let outcomes = world.operate_all(&refused).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().class, Class::Invalid);
    assert!(outcomes[1].is_ok() && folder.join("b").exists() && !folder.join("a").exists());
}

#[tokio::test]
async fn new_directories_and_links_are_made_together_and_replace_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let at = |name: &str| dir.path().join(name);
    let create = |kind: &str, desired| world.operation(kind, create(kind, desired), None, Vec::new());
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/x"), "x").unwrap();
    fs::write(at("file"), "x").unwrap();
    let outcomes = world
        .operate_all(&[
            create("ssh_directory", json!({ "path": at("new"), "mode": "2750" })),
            create("ssh_directory", json!({ "path": at("empty"), "mode": "0711" })),
            create("ssh_directory", json!({ "path": at("full") })),
            create("ssh_directory", json!({ "path": at("file") })),
            create("ssh_link", json!({ "path": at("link"), "target": "no -> 'where" })),
            create("ssh_link", json!({ "path": at("full"), "target": "x" })),
        ])
        .await;
    let failed: Vec<usize> = (0..6).filter(|i| outcomes[*i].is_err()).collect();
    assert_eq!(failed, [3, 5]);
    let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("new"), mode("empty"), mode("full")], [0o2750, 0o711, 0o755]);
    assert_eq!(fs::read_to_string(at("full/x")).unwrap(), "x");
    assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("no -> 'where"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5, "no temporary file is left");
}

/// The owner of a directory can replace the private directory in it by a link at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_never_written_together_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let (folder, other) = (dir.path().join("folder"), dir.path().join("other"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("kept"), "x").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut moved = 0;
            while !over.load(Ordering::Relaxed) {
                let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
                for name in names.filter(|name| name.display().to_string().contains(".moorfast-")) {
                    moved += 1;
                    // The directory may be gone already.
                    if fs::rename(&name, folder.join(format!("moved{moved}"))).is_ok() {
                        let _ = symlink(&other, name);
                    }
                }
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for i in 0..20 {
                    let file = |name: &str| {
                        let desired = json!({ "path": folder.join(name), "content": format!("{i}"), "mode": "0666" });
                        world.operation("ssh_file", create("ssh_file", desired), None, Vec::new())
                    };
                    // The operations may succeed or not: the content of that directory belongs to its owner.
                    world.operate_all(&[file("a"), file("b")]).await;
                }
            });
        });
        over.store(true, Ordering::Relaxed);
    });
    let left: Vec<_> = fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["kept"]);
    assert_eq!(fs::read_to_string(other.join("kept")).unwrap(), "x");
}

#[tokio::test]
async fn archives_are_unpacked_repaired_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let pack = |name: &str, files: &[&str]| {
        let stage = tempfile::tempdir().unwrap();
        for file in files {
            let path = stage.path().join("top").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{name} {file}")).unwrap();
        }
        symlink(files[0], stage.path().join("top/link")).unwrap();
        let archive = dir.path().join(name);
        let mut tar = Command::new("tar");
        assert!(tar.arg("-caf").arg(&archive).arg("-C").arg(stage.path()).arg("top").status().unwrap().success());
        let sum = Command::new("sha256sum").arg(&archive).output().unwrap().stdout;
        String::from_utf8(sum).unwrap()[..64].to_owned()
    };
    let into = dir.path().join("out");
    let desired = |name: &str, sum: &str| {
        attributes(json!({ "path": into, "source": name, "sha256": sum, "strip_components": 1 }))
    };
    let one = pack("one.tar.gz", &["a", "bin/tool", "bin/old"]);
    world.apply("ssh_archive", desired("one.tar.gz", &one)).await.unwrap();
    assert_eq!(fs::read_to_string(into.join("bin/tool")).unwrap(), "one.tar.gz bin/tool");
    fs::write(into.join("bin/tool"), "broken").unwrap();
    world.apply("ssh_archive", desired("one.tar.gz", &one)).await.unwrap();
    assert_eq!(fs::read_to_string(into.join("bin/tool")).unwrap(), "one.tar.gz bin/tool");

    let two = pack("two.tar.xz", &["a", "bin/tool"]);
    world.apply("ssh_archive", desired("two.tar.xz", &two)).await.unwrap();
    assert!(!into.join("bin/old").exists() && into.join("link").exists());
    fs::write(into.join("mine"), "").unwrap();
    world.destroy("ssh_archive").await.unwrap();
    let left: Vec<_> = fs::read_dir(&into).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["mine"]);
    let error = world.apply("ssh_archive", desired("two.tar.xz", &one)).await.unwrap_err();
    assert!(error.summary.contains("is not the one in the manifest"), "{error}");
}

/// Returns the obstacles in the plan of `desired`, with DIR for the folder of the test.
async fn obstacles(world: &World, dir: &std::path::Path, kind: &str, desired: serde_json::Value) -> Vec<String> {
    let proposal = world.plan(kind, attributes(desired)).await.unwrap();
    let message = |consequence: Consequence| match consequence {
        Consequence::Obstacle { message } => message.replace(dir.to_str().unwrap(), "DIR"),
        other => panic!("{other}"),
    };
    proposal.consequences.into_iter().map(message).collect()
}

#[tokio::test]
async fn the_plan_shows_what_the_apply_would_refuse() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    let at = |path: &str| dir.path().join(path);
    let missing = "the directory DIR/no does not exist (create it with ssh_directory, or set parents = true)";
    let cases = [
        ("ssh_file", json!({ "path": at("d"), "content": "" }), vec!["there is a directory at the path"]),
        ("ssh_directory", json!({ "path": at("f") }), vec!["there is a regular empty file at the path"]),
        ("ssh_link", json!({ "path": at("f"), "target": "x" }), vec!["there is a regular empty file at the path"]),
        ("ssh_link", json!({ "path": at("d"), "target": "x" }), vec!["there is a directory at the path"]),
        ("ssh_file", json!({ "path": at("f/x"), "content": "" }), vec!["DIR/f is not a directory"]),
        ("ssh_directory", json!({ "path": at("f/x/y") }), vec!["DIR/f is not a directory"]),
        (
            "ssh_archive",
            json!({ "path": at("f"), "source": "a.tar", "sha256": "0".repeat(64) }),
            vec!["DIR/f is not a directory"],
        ),
        ("ssh_file", json!({ "path": at("no/x"), "content": "" }), vec![missing]),
        ("ssh_link", json!({ "path": at("no/x"), "target": "x" }), vec![missing]),
        ("ssh_directory", json!({ "path": at("no/x"), "parents": false }), vec![missing]),
        ("ssh_directory", json!({ "path": at("no/x") }), vec![]),
        ("ssh_file", json!({ "path": at("no/x"), "content": "", "parents": true }), vec![]),
        (
            "ssh_file",
            json!({ "path": at("x"), "content": "", "owner": "mf-nobody", "group": "mf-none" }),
            vec![
                "the user `mf-nobody` does not exist (create it with ssh_user, or correct the name)",
                "the group `mf-none` does not exist (create it with ssh_group, or correct the name)",
            ],
        ),
        ("ssh_file", json!({ "path": at("x"), "content": "", "owner": "daemon", "group": "4711" }), vec![]),
        (
            "ssh_user",
            json!({ "name": "mf-user", "group": "daemon", "groups": ["adm", "mf-none", "4711"] }),
            vec!["the group `mf-none` does not exist (create it with ssh_group, or correct the name)"],
        ),
        (
            "ssh_sysctl",
            json!({ "name": "net.mf.none", "value": "1" }),
            vec!["the kernel parameter does not exist (it may need a module: ssh_kernel_module)"],
        ),
        (
            "ssh_exec",
            json!({ "script": "#!/opt/no/such/python3 -u\nprint(1)" }),
            vec![
                "the interpreter /opt/no/such/python3 of the script does not exist or is not executable (install it with ssh_package, or correct the first line of the script)",
            ],
        ),
        (
            "ssh_exec",
            json!({ "script": "#!/usr/bin/env mf-no-such\n" }),
            vec![
                "the interpreter mf-no-such of the script does not exist or is not executable (install it with ssh_package, or correct the first line of the script)",
            ],
        ),
        (
            "ssh_exec",
            json!({ "command": ["mf-no-such", "x"] }),
            vec![
                "the program mf-no-such does not exist or is not executable (install it with ssh_package, or correct the command)",
            ],
        ),
        (
            "ssh_exec",
            json!({ "command": [at("f")] }),
            vec![
                "the program DIR/f does not exist or is not executable (install it with ssh_package, or correct the command)",
            ],
        ),
        ("ssh_exec", json!({ "command": ["mf-no-such"], "environment": { "PATH": "/opt/own/bin" } }), vec![]),
        ("ssh_exec", json!({ "command": ["./run"], "working_directory": at("d") }), vec![]),
        ("ssh_exec", json!({ "script": "#!/usr/bin/env -S sh -u\n" }), vec![]),
        ("ssh_exec", json!({ "script": "mf-no-such" }), vec![]),
        ("ssh_exec", json!({ "command": ["test", "-e", "/"] }), vec![]),
    ];
    for (kind, desired, expected) in cases {
        let world = World::local(dir.path()).await;
        assert_eq!(obstacles(&world, dir.path(), kind, desired.clone()).await, expected, "{kind} {desired}");
    }
}

/// A folder for creating and unpacking archives.
struct Archives {
    dir: tempfile::TempDir,
    world: World,
}

impl Archives {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::local(dir.path()).await;
        Self { dir, world }
    }

    fn out(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("out").join(path)
    }

    fn sh(&self, script: &str) -> String {
        let output = Command::new("sh").args(["-ec", script]).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns the attributes of an archive of what `script` creates in an empty folder.
    fn archive(&self, script: &str) -> serde_json::Value {
        let name = self.sh(&format!(
            "umask 022; rm -rf stage; mkdir stage; ( cd stage; {script} ); N=$(mktemp XXXXXXXX.tar); tar cf \"$N\" -C stage .; echo \"$N\""
        ));
        let sum = self.sh(&format!("sha256sum < {name}"))[..64].to_owned();
        json!({ "path": self.dir.path().join("out"), "source": name, "sha256": sum })
    }

    /// Returns the content of the target, without markers.
    fn content(&self) -> String {
        self.sh("[ ! -d out ] || ( cd out; find . -mindepth 1 ! -name '.moorfast-archive-*' | sort | paste -sd' ' )")
    }
}

#[tokio::test]
async fn directories_have_the_modes_of_the_archive() {
    let test = Archives::new().await;
    let archive = test.archive(
        "mkdir -p priv tmp sg ro/deep theirs empty; for D in priv tmp sg ro/deep theirs; do echo x > $D/f; done; \
         chmod 700 priv; chmod 1777 tmp; chmod 2775 sg; chmod 555 ro/deep; chmod 550 ro; chmod 777 theirs; chmod 4755 sg/f",
    );
    test.sh("mkdir -p out/theirs; echo mine > out/theirs/mine; chmod 751 out/theirs");
    test.world.apply("ssh_archive", attributes(archive.clone())).await.unwrap();
    let modes = "cd out; stat -c '%a %n' priv tmp sg sg/f ro ro/deep theirs empty | paste -sd,";
    assert_eq!(
        test.sh(modes),
        "700 priv,1777 tmp,2775 sg,4755 sg/f,550 ro,555 ro/deep,751 theirs,755 empty",
        "a directory that was there keeps its mode"
    );
    test.sh("rmdir out/empty");
    let lost = test.world.plan("ssh_archive", attributes(archive.clone())).await.unwrap();
    assert_eq!(lost.action, ProposedAction::Update, "an empty directory is part of the archive");
    let mut owned = archive;
    owned["owner"] = json!("daemon");
    owned["group"] = json!("daemon");
    if nix::unistd::geteuid().is_root() {
        test.world.apply("ssh_archive", attributes(owned)).await.unwrap();
        assert_eq!(
            test.sh("cd out; stat -c '%a %U:%G %n' sg sg/f tmp theirs | paste -sd,"),
            "2775 daemon:daemon sg,4755 daemon:daemon sg/f,1777 daemon:daemon tmp,751 root:root theirs"
        );
    }
    test.world.destroy("ssh_archive").await.unwrap();
    assert_eq!(test.content(), "./theirs ./theirs/mine");
}

#[tokio::test]
async fn an_upgrade_turns_files_into_directories_and_back() {
    let test = Archives::new().await;
    let versions = [
        ("mkdir d; echo 1 > x; echo 1 > d/a; ln -s x l; echo 1 > gone", "./d ./d/a ./gone ./l ./mine ./x"),
        (
            "mkdir -p x/deep l; echo 2 > x/a; echo 2 > d; echo 2 > l/b; echo 2 > x/deep/f",
            "./d ./l ./l/b ./mine ./x ./x/a ./x/deep ./x/deep/f",
        ),
        ("ln -s d x; mkdir d; echo 3 > d/a; echo 3 > l", "./d ./d/a ./l ./mine ./x"),
        ("mkdir d", "./d ./mine"),
        ("mkdir d; echo 5 > d/a", "./d ./d/a ./mine"),
    ];
    test.sh("mkdir out; echo mine > out/mine");
    for (script, content) in versions {
        test.world.apply("ssh_archive", attributes(test.archive(script))).await.unwrap();
        assert_eq!(test.content(), content, "{script}");
    }
}

#[tokio::test]
async fn objects_of_others_are_not_replaced_by_another_kind() {
    let test = Archives::new().await;
    let cases = [
        ("mkdir -p zz/f", "mkdir zz bin; echo x > zz/f; echo x > bin/a; echo x > aa", "zz/f"),
        ("mkdir zz; echo mine > zz/f", "mkdir -p zz/f; echo x > zz/f/a; echo x > aa", "zz/f"),
        ("mkdir -p zz/f; echo mine > zz/f/mine", "mkdir zz; echo x > zz/f; echo x > aa", "zz/f/mine"),
        ("mkdir zz; ln -s nowhere zz/f", "mkdir -p zz/f; echo x > zz/f/a; echo x > aa", "zz/f"),
    ];
    for (there, archive, path) in cases {
        test.sh(&format!("rm -rf out; mkdir out; cd out; {there}"));
        let before = test.content();
        let error = test.world.apply_failing("ssh_archive", attributes(test.archive(archive))).await;
        assert_eq!(error.class, Class::Conflict, "{error:?}");
        assert!(error.summary.contains(&format!("out/{path} is in the way")), "{error}");
        test.world.destroy("ssh_archive").await.unwrap();
        assert_eq!(test.content(), before, "{archive}");
    }
}

#[tokio::test]
async fn an_archive_that_unpacks_to_nothing_is_refused() {
    let test = Archives::new().await;
    let mut archive = test.archive("mkdir v1; echo x > v1/f");
    archive["strip_components"] = json!(5);
    let error = test.world.apply_failing("ssh_archive", attributes(archive)).await;
    assert!(error.summary.ends_with("the archive has no file to unpack"), "{error}");
    assert!(error.help.is_some_and(|help| help.contains("strip_components")));
    assert!(!test.out("").exists(), "the folder that was made for it is gone");
}

#[tokio::test]
async fn names_with_backslashes_and_spaces_are_removed_like_others() {
    let test = Archives::new().await;
    let odd =
        r"mkdir -p 'a\x2db.mount.d' 'd '; echo 1 > 'a\x2db.mount.d/c\x2dd.conf'; echo 1 > 'd / f '; echo 1 > keep";
    test.world.apply("ssh_archive", attributes(test.archive(odd))).await.unwrap();
    test.world.apply("ssh_archive", attributes(test.archive("echo 1 > keep"))).await.unwrap();
    assert_eq!(test.content(), "./keep");
    test.world.apply("ssh_archive", attributes(test.archive(odd))).await.unwrap();
    test.world.destroy("ssh_archive").await.unwrap();
    assert_eq!(test.content(), "");
}

#[tokio::test]
async fn a_name_with_a_line_break_is_refused_before_anything_is_moved() {
    let test = Archives::new().await;
    let archive = test.archive("echo 1 > a; echo 1 > \"b\nc\"");
    let error = test.world.apply_failing("ssh_archive", attributes(archive)).await;
    assert!(error.summary.ends_with("a name in the archive contains a line break"), "{error}");
    assert_eq!(test.content(), "");
}

/// An archive of a folder that moorfast unpacked contains its marker.
#[tokio::test]
async fn markers_in_an_archive_are_not_unpacked() {
    let test = Archives::new().await;
    let archive = test.archive("echo 1 > a; echo old > .moorfast-archive-archive; echo old > .moorfast-archive-other");
    test.world.apply("ssh_archive", attributes(archive)).await.unwrap();
    assert_eq!(test.content(), "./a");
    assert!(!test.out(".moorfast-archive-other").exists());
}

#[tokio::test]
async fn a_destroy_removes_the_files_of_an_interrupted_unpacking() {
    let test = Archives::new().await;
    let old = test.archive("mkdir -p both old; echo 1 > both/a; echo 1 > old/a");
    let new = test.archive("mkdir -p both new/sub; echo 2 > both/a; echo 2 > new/sub/a");
    test.world.apply("ssh_archive", attributes(old)).await.unwrap();
    // The marker is the last file that is written before the first file moves. It lists what may exist from then on.
    let marker = test.out(".moorfast-archive-archive");
    let before = fs::read_to_string(&marker).unwrap();
    test.world.apply("ssh_archive", attributes(new.clone())).await.unwrap();
    let after = fs::read_to_string(&marker).unwrap();
    let (sum, listed) = after.split_once('\n').unwrap();
    let was = before.split_once('\n').unwrap().1;
    fs::write(&marker, format!("{sum}\nunfinished *./.moorfast-unfinished\n{was}{listed}")).unwrap();
    test.sh("mkdir out/old; echo 1 > out/old/a");
    let found = test.world.read("ssh_archive", Some(attributes(new))).await.unwrap().unwrap();
    assert_eq!(found.attributes["intact"], Value::from(false));
    test.world.destroy("ssh_archive").await.unwrap();
    assert!(!test.out("").exists(), "{}", test.content());
}

/// Answers one request with 404, and returns the command lines of all processes at that moment.
fn serve_nothing(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines: Vec<_> = processes.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect();
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    lines.join("\n")
}

#[tokio::test]
async fn an_address_with_a_secret_is_on_no_command_line_and_in_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fetch = |url: String| {
        let mut action =
            create("ssh_archive", json!({ "path": dir.path().join("out"), "url": "x.tar", "sha256": "0".repeat(64) }));
        if let OperationAction::Create(desired) = &mut action {
            desired.insert("url".to_owned(), Value::from(url).sensitive());
        }
        world.operate("ssh_archive", action, None, Vec::new())
    };
    let served = std::thread::spawn(|| serve_nothing(listener));
    let error = fetch(format!("http://{address}/a.tar?token=s3cr3t\"\\token")).await.unwrap_err();
    let command_lines = served.join().unwrap();
    assert!(command_lines.contains("curl") || command_lines.contains("wget"), "the command lines were read");
    assert!(!command_lines.contains("s3cr3t"), "{}", command_lines.lines().find(|l| l.contains("s3cr3t")).unwrap());
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    // curl prints an address that it cannot parse.
    let error = fetch(format!("http://{address}/a.tar?token=s3cr3t[token")).await.unwrap_err();
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
}

#[tokio::test]
async fn facts_describe_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let request = moorfast_engine::provider::DataRequest {
        address: common::address("ssh_facts"),
        data_source: SshProvider.data_sources().pop().unwrap(),
        arguments: Default::default(),
        timeout: None,
    };
    let facts = world.connection.read_data(&world.target, &[request]).await.pop().unwrap().unwrap();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(facts["kernel"], Value::from(kernel.trim()));
    assert!(facts["cpus"].as_i64().unwrap() > 0 && facts["memory"].as_i64().unwrap() > 0);
    assert!(["apt", "dnf", ""].contains(&facts["package_manager"].as_str().unwrap()));
}

#[tokio::test]
async fn endless_output_of_a_command_is_bounded_in_memory_and_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let script =
        "echo first >&2; head -c 300000000 /dev/zero >&2; yes | head -c 4000000 >&2; echo; echo last >&2; exit 3";
    let error = world.apply_failing("ssh_exec", attributes(json!({ "script": script, "timeout": "120s" }))).await;
    let text = format!("{error:?}");
    assert!(text.len() < 64 << 10, "{}", text.len());
    assert!(text.contains("last"), "{text}");
    let peak = fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 200_000, "{peak} KiB");
}

#[tokio::test]
async fn the_next_write_removes_the_temporary_files_of_a_killed_upload() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let machine: String = fs::read_to_string("/etc/machine-id").unwrap_or_default().chars().take(8).collect();
    if machine.is_empty() {
        return eprintln!("skipped: this machine has no machine-id");
    }
    let own = std::process::id();
    let orphan = Command::new("sh").args(["-c", "sleep 2 >/dev/null & echo $!"]).output().unwrap();
    let of_ending = format!(".moorfast-{machine}-{}.abcdefgh", String::from_utf8(orphan.stdout).unwrap().trim());
    let of_dead = format!(".moorfast-{machine}-4294967295.abcdefgh");
    let names = [of_dead.as_str(), &of_ending, ".moorfast-abcdefgh"];
    let kept = [
        format!(".moorfast-{machine}-{own}.abcdefgh"),
        ".moorfast-archive-x".to_owned(),
        ".moorfast-new45678".to_owned(),
    ];
    for name in names.into_iter().chain(kept.iter().map(String::as_str)) {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 86_400);
    fs::File::options().append(true).open(dir.path().join(".moorfast-abcdefgh")).unwrap().set_modified(old).unwrap();
    world.apply("ssh_file", attributes(json!({ "path": dir.path().join("f"), "content": "whole" }))).await.unwrap();
    for name in names {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
    for name in kept {
        assert!(dir.path().join(&name).exists(), "{name}: a script that runs, or another's file");
    }
    assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "whole");
}

#[tokio::test]
async fn a_file_in_place_of_another_kind_of_object_is_an_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = |name: &str| dir.path().join(name);
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/nowhere", path("link")).unwrap();
    for name in ["fifo", "link"] {
        let plan = world.plan("ssh_file", attributes(json!({ "path": path(name), "content": "x" }))).await.unwrap();
        assert_eq!(plan.consequences, [Consequence::Overwrite], "{name}");
    }
}

//! The resource types that need no root and no systemd, on the local transport in a temporary folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{World, attributes, create};
use moorfast_engine::{Class, Operation, OperationAction, ProposedAction, Value};
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
}

#[tokio::test]
async fn a_big_binary_source_is_uploaded_over_a_running_program() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("sleeper");
    fs::copy("/bin/sleep", &path).unwrap();
    let mut running = std::process::Command::new(&path).arg("60").spawn().unwrap();
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
async fn a_secret_is_marked_wherever_it_is_seen() {
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
    assert!(lost.summary.contains("cannot be made again"), "{lost}");
}

#[tokio::test]
async fn what_may_turn_out_to_be_a_secret_is_not_shown() {
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

    // It turned out to be no secret, or one: what is there already is as it should be.
    for content in [Value::from("s3cr3t-token"), Value::from("s3cr3t-token").sensitive()] {
        let proposal = world.plan_over("ssh_file", desired(content), Some(early.clone())).await.unwrap();
        assert_eq!(proposal.action, ProposedAction::NoOp, "{:?}", proposal.planned);
    }

    // What is remembered decides as long as the manifest can't.
    for (content, hides) in [(Value::from("one").sensitive(), true), (Value::from("two"), false)] {
        world.apply("ssh_file", desired(content)).await.unwrap();
        let seen = world.read("ssh_file", Some(desired(Value::Unknown))).await.unwrap().unwrap();
        assert_eq!([&seen.attributes["content"], &seen.attributes["sha256"]].map(Value::is_sensitive), [hides; 2]);
    }
}

#[tokio::test]
async fn a_secret_too_big_to_be_read_stays_one_when_it_is_retained() {
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
async fn a_backup_is_kept_and_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("motd");
    fs::write(&path, "from before").unwrap();
    let desired = |content: &str| attributes(json!({ "path": path, "content": content, "backup": true }));
    let applied = world.apply("ssh_file", desired("ours")).await.unwrap();
    assert!(applied.notes[0].starts_with("what was there is kept as"), "{:?}", applied.notes);
    world.apply("ssh_file", desired("ours too")).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "what we wrote ourselves needs no backup");
    world.destroy("ssh_file").await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "from before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_made_anew_remembers_nothing_of_what_was_there() {
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
async fn a_mistake_in_a_validation_command_is_its_own() {
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
async fn missing_parents_and_links_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let path = dir.path().join("a/b/c");
    let error = world.apply("ssh_file", attributes(json!({ "path": path, "content": "x" }))).await.unwrap_err();
    assert!(error.summary.contains("there is no directory"), "{error}");
    world.apply("ssh_file", attributes(json!({ "path": path, "content": "x", "parents": true }))).await.unwrap();

    world.forget();
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
async fn a_link_that_came_after_the_look_is_not_followed() {
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

/// The owner of a directory can put a link in the place of the file that is written there, in its few moments.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_beside_goes_through_no_link() {
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
                    // It may succeed or not: what the owner has there is his.
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
async fn directories_keep_what_is_in_them_unless_forced() {
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
async fn a_path_that_is_not_known_yet_still_finds_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "path": dir.path().join("f"), "content": "x" }));
    world.apply("ssh_file", desired.clone()).await.unwrap();
    desired.insert("path".to_owned(), Value::Unknown);
    let proposal = world.plan("ssh_file", desired).await.unwrap();
    assert_eq!(proposal.action, ProposedAction::Replace(vec!["path".to_owned()]));
}

#[tokio::test]
async fn content_that_is_not_known_yet_is_planned_so() {
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
async fn commands_run_when_they_must() {
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
async fn guards_decide_by_the_world() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let made = dir.path().join("made");
    let desired = attributes(json!({ "command": ["touch", made], "creates": made }));
    world.apply("ssh_exec", desired.clone()).await.unwrap();
    fs::remove_file(&made).unwrap();
    assert_eq!(world.plan("ssh_exec", desired).await.unwrap().action, ProposedAction::Create);
    world.forget();
    let idle = attributes(json!({ "command": ["touch", made], "only_if": "test -e /nowhere" }));
    assert_eq!(world.plan("ssh_exec", idle).await.unwrap().action, ProposedAction::NoOp);
    let needed = attributes(json!({ "command": ["touch", made], "unless": ["test", "-e", made] }));
    world.apply("ssh_exec", needed).await.unwrap();
    assert!(made.exists());
}

#[tokio::test]
async fn a_failing_command_tells_what_it_said_but_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let mut desired = attributes(json!({ "script": "echo \"bad token $TOKEN\" >&2; exit 7" }));
    let token = Value::from("s3cr3t-token").sensitive();
    desired.insert("environment".to_owned(), Value::Map([("TOKEN".to_owned(), token)].into()));
    let error = world.apply("ssh_exec", desired).await.unwrap_err();
    assert!(error.summary.ends_with("it ended with status 7"), "{error}");
    assert_eq!(error.detail, ["bad token (sensitive)"]);
}

#[tokio::test]
async fn no_form_of_a_secret_is_in_what_a_failing_command_said() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let environment = |value: &str| Value::Map([("KEY".to_owned(), Value::from(value))].into());
    let cut = "(sensitive)";
    let cases = [
        // The map is sensitive as a whole.
        (environment("s3cr3t-token").sensitive(), "echo \"bad key $KEY\" >&2", vec!["bad key (sensitive)"]),
        // As a file holds it, and as a command prints it.
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
        // What is no secret by itself stays readable.
        (
            environment("{\n  \"token\": \"s3cr3t\"\n}\n").sensitive(),
            "echo '{}'; echo \"$KEY\" | grep s3cr3t",
            vec!["{}", "  (sensitive)"],
        ),
        // One begins as another does.
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
async fn a_command_that_takes_too_long_is_killed_with_its_children() {
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

#[tokio::test]
async fn cancelling_ends_what_runs() {
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
            OperationAction::Create(desired) => moorfast_engine::ReadRequest {
                address: operation.address.clone(),
                resource_type: "ssh_file".to_owned(),
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

#[tokio::test]
async fn archives_are_unpacked_mended_and_removed() {
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
        let mut tar = std::process::Command::new("tar");
        assert!(tar.arg("-caf").arg(&archive).arg("-C").arg(stage.path()).arg("top").status().unwrap().success());
        let sum = std::process::Command::new("sha256sum").arg(&archive).output().unwrap().stdout;
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
    assert!(error.summary.contains("another SHA-256"), "{error}");
}

/// Answers one request with 404, and tells the command lines that were there meanwhile.
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
    assert!(command_lines.contains("curl") || command_lines.contains("wget"), "they were looked at");
    assert!(!command_lines.contains("s3cr3t"), "{}", command_lines.lines().find(|l| l.contains("s3cr3t")).unwrap());
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    // curl shows an address that it does not understand.
    let error = fetch(format!("http://{address}/a.tar?token=s3cr3t[token")).await.unwrap_err();
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
}

#[tokio::test]
async fn facts_tell_what_this_machine_is() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let request = moorfast_engine::DataRequest {
        address: common::address("ssh_facts"),
        data_source: "ssh_facts".to_owned(),
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
async fn what_a_command_prints_without_end_costs_neither_memory_nor_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let script =
        "echo first >&2; head -c 300000000 /dev/zero >&2; yes | head -c 4000000 >&2; echo; echo last >&2; exit 3";
    let error = world.fail("ssh_exec", attributes(json!({ "script": script, "timeout": "120s" }))).await;
    let text = format!("{error:?}");
    assert!(text.len() < 64 << 10, "{}", text.len());
    assert!(text.contains("last"), "{text}");
    let peak = fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 200_000, "{peak} KiB");
}

#[tokio::test]
async fn the_next_write_removes_what_a_killed_upload_left_beside_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::local(dir.path()).await;
    let machine: String = fs::read_to_string("/etc/machine-id").unwrap_or_default().chars().take(8).collect();
    if machine.is_empty() {
        return eprintln!("skipped: this machine has no machine-id");
    }
    let own = std::process::id();
    let of_dead = format!(".moorfast-{machine}-4294967295.abcdefgh");
    let names = [&of_dead, ".moorfast-abcdefgh"];
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

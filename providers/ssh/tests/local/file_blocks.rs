//! Blocks in files that others write too: what is outside of a block stays byte for byte, and several blocks of one file do not disturb each other.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use moorfast_engine::model::Attributes;
use moorfast_engine::provider::ProviderError;

use super::*;

const BLOCK: &str = "ssh_file_block";

struct Bench {
    dir: tempfile::TempDir,
    world: World,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::local(dir.path()).await;
        Self { dir, world }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    fn write(&self, text: &[u8]) {
        fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8(fs::read(self.path()).unwrap()).unwrap()
    }

    fn block(&self, more: serde_json::Value) -> Attributes {
        let mut all = json!({ "path": self.path(), "name": "a", "content": "1\n2\n" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        attributes(all)
    }

    /// Applies `desired`, and asserts that a destroy restores the text from before.
    async fn is_written_and_restored(&self, before: &[u8], desired: Attributes, expected: &str) {
        self.write(before);
        self.world.apply(BLOCK, desired).await.unwrap();
        assert_eq!(self.text(), expected);
        self.world.destroy(BLOCK).await.unwrap();
        assert_eq!(fs::read(self.path()).unwrap(), before, "{expected:?}");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}

fn shown(error: &ProviderError, path: &Path) -> String {
    let text = format!("{:?}: {}\nhelp: {}", error.class, error.summary, error.help.as_deref().unwrap_or("none"));
    text.replace(&path.display().to_string(), "FILE")
}

#[tokio::test]
async fn a_block_is_placed_and_removed_without_a_trace() {
    let bench = Bench::new().await;
    let block = |json| bench.block(json);
    let lines = "# BEGIN moorfast a\n1\n2\n# END moorfast a\n";
    let crlf = lines.replace('\n', "\r\n");
    let other = "# BEGIN moorfast b\nx\n# END moorfast b\n";
    let cases: &[(&str, serde_json::Value, String)] = &[
        ("one\ntwo\n", json!({}), format!("one\ntwo\n{lines}")),
        ("one\ntwo", json!({}), format!("one\ntwo\n{lines}")),
        ("", json!({}), lines.to_owned()),
        ("\n\n", json!({}), format!("\n\n{lines}")),
        ("one\r\ntwo\r\n", json!({}), format!("one\r\ntwo\r\n{crlf}")),
        ("one\r\ntwo", json!({}), format!("one\r\ntwo\r\n{crlf}")),
        ("one\r\ntwo\r\n", json!({ "after": "^one$" }), format!("one\r\n{crlf}two\r\n")),
        ("one\ntwo\none\nthree", json!({ "after": "^o" }), format!("one\ntwo\none\n{lines}three")),
        ("one\ntwo\none\nthree", json!({ "before": "^o" }), format!("{lines}one\ntwo\none\nthree")),
        ("one\ntwo", json!({ "after": "two" }), format!("one\ntwo\n{lines}")),
        ("one\ntwo", json!({ "before": "w" }), format!("one\n{lines}two")),
        ("one\n", json!({ "after": "no such" }), format!("one\n{lines}")),
        ("x\n", json!({ "comment": "//", "content": "" }), "x\n// BEGIN moorfast a\n// END moorfast a\n".to_owned()),
        (
            "x\n",
            json!({ "content": "it's $HOME \\n %s" }),
            "x\n# BEGIN moorfast a\nit's $HOME \\n %s\n# END moorfast a\n".to_owned(),
        ),
        ("x\n", json!({ "content": "\n\n" }), "x\n# BEGIN moorfast a\n\n\n# END moorfast a\n".to_owned()),
    ];
    for (before, json, expected) in cases {
        bench.is_written_and_restored(before.as_bytes(), block(json.clone()), expected).await;
    }
    // A line in another block is no place.
    bench
        .is_written_and_restored(
            format!("x\n{other}y\n").as_bytes(),
            block(json!({ "after": "x" })),
            &format!("x\n{lines}{other}y\n"),
        )
        .await;
    bench
        .is_written_and_restored(
            format!("{other}y\n").as_bytes(),
            block(json!({ "before": "." })),
            &format!("{other}{lines}y\n"),
        )
        .await;
    // Bytes of any kind stay.
    bench.write(b"\xff\x00\n\x80");
    bench.world.apply(BLOCK, block(json!({}))).await.unwrap();
    bench.world.destroy(BLOCK).await.unwrap();
    assert_eq!(fs::read(bench.path()).unwrap(), b"\xff\x00\n\x80");
}

#[tokio::test]
async fn a_block_is_changed_in_place_and_drift_is_corrected() {
    let bench = Bench::new().await;
    bench.write(b"one\ntwo\n");
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let owner = |bench: &Bench| {
        let status = fs::metadata(bench.path()).unwrap();
        (status.uid(), status.gid(), status.mode() & 0o7777)
    };
    let before = owner(&bench);
    let desired = |content: &str| bench.block(json!({ "after": "one", "content": content }));
    bench.world.apply(BLOCK, desired("1")).await.unwrap();
    assert_eq!(owner(&bench), before);
    assert_eq!(bench.world.plan(BLOCK, desired("1\n")).await.unwrap().action, ProposedAction::NoOp);

    // Others write around the block.
    bench.write(bench.text().replace("one\n", "zero\none\n").replace("two", "three").as_bytes());
    assert_eq!(bench.world.plan(BLOCK, desired("1")).await.unwrap().action, ProposedAction::NoOp);
    bench.world.apply(BLOCK, desired("2")).await.unwrap();
    assert_eq!(bench.text(), "zero\none\n# BEGIN moorfast a\n2\n# END moorfast a\nthree\n");

    // Somebody writes into the block, and another one removes it.
    bench.write(bench.text().replace("\n2\n", "\n2\n3\n").as_bytes());
    let observed = bench.world.read(BLOCK, None).await.unwrap().unwrap();
    assert_eq!(observed.attributes["content"], Value::from("2\n3\n"));
    bench.world.apply(BLOCK, desired("2")).await.unwrap();
    bench.write(b"gone\n");
    assert!(bench.world.read(BLOCK, None).await.unwrap().is_none());
    bench.world.apply(BLOCK, desired("2")).await.unwrap();
    let comment = attributes(json!({ "path": bench.path(), "name": "a", "content": "2", "comment": ";" }));
    bench.world.apply(BLOCK, comment).await.unwrap();
    assert_eq!(bench.text(), "gone\n; BEGIN moorfast a\n2\n; END moorfast a\n");
    bench.world.destroy(BLOCK).await.unwrap();
    assert_eq!(bench.text(), "gone\n");
    bench.world.destroy(BLOCK).await.unwrap();
    assert_eq!(owner(&bench), before);
}

#[tokio::test]
async fn blocks_of_one_file_do_not_disturb_each_other() {
    let bench = Bench::new().await;
    bench.write(b"mine\n");
    let desired = |index: usize| json!({ "path": bench.path(), "name": format!("block-{index}"), "content": format!("{index}\n") });
    let operations: Vec<Operation> =
        (0..40).map(|index| bench.world.operation(BLOCK, create(BLOCK, desired(index)), None, Vec::new())).collect();
    // Several calls at once, as for several waves and rollouts.
    let calls = operations.chunks(10).map(|chunk| bench.world.operate_all(chunk));
    let outcomes = futures::future::join_all(calls).await.into_iter().flatten();
    assert_eq!(outcomes.filter(|outcome| outcome.is_ok()).count(), 40);
    let text = bench.text();
    assert!(text.starts_with("mine\n# BEGIN moorfast block-"));
    for index in 0..40 {
        let block = format!("# BEGIN moorfast block-{index}\n{index}\n# END moorfast block-{index}\n");
        assert!(text.contains(&block), "{text}");
    }
    assert_eq!(text.lines().count(), 1 + 40 * 3);
}

#[tokio::test]
async fn a_created_file_is_removed_with_its_last_block() {
    let bench = Bench::new().await;
    let missing = bench.world.plan(BLOCK, bench.block(json!({}))).await.unwrap();
    let message = "the file does not exist (create it with ssh_file, or set create = true)".to_owned();
    assert_eq!(missing.consequences, [Consequence::Obstacle { message }]);
    let error = bench.world.apply(BLOCK, bench.block(json!({}))).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &bench.path()), @r"
    Failed: cannot create block FILE#a on here: the file does not exist (create it with ssh_file, or set create = true)
    help: none
    ");

    let desired = || bench.block(json!({ "create": true }));
    bench.world.apply(BLOCK, desired()).await.unwrap();
    assert_eq!(fs::metadata(bench.path()).unwrap().mode() & 0o7777, 0o644);
    bench.world.destroy(BLOCK).await.unwrap();
    assert!(!bench.path().exists());

    bench.world.apply(BLOCK, desired()).await.unwrap();
    bench.write(format!("theirs\n{}", bench.text()).as_bytes());
    bench.world.destroy(BLOCK).await.unwrap();
    assert_eq!(bench.text(), "theirs\n");

    // The block that is removed last removes the file, whichever created it.
    fs::remove_file(bench.path()).unwrap();
    bench
        .world
        .operate(
            BLOCK,
            create(BLOCK, json!({ "path": bench.path(), "name": "b", "content": "", "create": true })),
            None,
            Vec::new(),
        )
        .await
        .unwrap();
    bench.world.apply(BLOCK, desired()).await.unwrap();
    bench.write(bench.text().replace("# BEGIN moorfast b\n# END moorfast b\n", "").as_bytes());
    bench.world.destroy(BLOCK).await.unwrap();
    assert!(!bench.path().exists());
}

#[tokio::test]
async fn damaged_blocks_and_other_kinds_are_errors_that_change_nothing() {
    let bench = Bench::new().await;
    let mut errors = Vec::new();
    for damaged in [
        "# BEGIN moorfast a\n1\n",
        "x\n# END moorfast a\n",
        "# BEGIN moorfast a\n# END moorfast a\n# BEGIN moorfast a\n# END moorfast a\n",
    ] {
        bench.write(b"x\n# BEGIN moorfast a\nold\n# END moorfast a\n");
        let observed = bench.world.read(BLOCK, Some(bench.block(json!({})))).await.unwrap();
        bench.write(damaged.as_bytes());
        errors.push(shown(&bench.world.plan(BLOCK, bench.block(json!({}))).await.unwrap_err(), &bench.path()));
        // The file can be damaged after the plan.
        let update = OperationAction::Update(World::full(BLOCK, bench.block(json!({}))));
        let error = bench.world.operate(BLOCK, update, observed, Vec::new()).await.unwrap_err();
        errors.push(shown(&error, &bench.path()));
        assert_eq!(bench.text(), damaged);
    }
    insta::assert_snapshot!(errors.join("\n"), @r"
    Conflict: the block `a` in FILE is damaged: it has no END line
    help: restore the missing line in FILE, or delete the other marker line of `a` and the lines of the block: the next apply writes them again
    Conflict: cannot change block FILE#a on here: the block is damaged: it has no END line
    help: restore the missing line in FILE, or delete the other marker line of `a` and the lines of the block: the next apply writes them again
    Conflict: the block `a` in FILE is damaged: it has no BEGIN line
    help: restore the missing line in FILE, or delete the other marker line of `a` and the lines of the block: the next apply writes them again
    Conflict: cannot change block FILE#a on here: the block is damaged: it has no BEGIN line
    help: restore the missing line in FILE, or delete the other marker line of `a` and the lines of the block: the next apply writes them again
    Conflict: the block `a` in FILE is damaged: its marker lines are there twice
    help: keep one of the blocks `a` in FILE and delete the other one, with its marker lines
    Conflict: cannot change block FILE#a on here: the block is damaged: its marker lines are there twice
    help: keep one of the blocks `a` in FILE and delete the other one, with its marker lines
    ");

    fs::rename(bench.path(), bench.dir.path().join("target")).unwrap();
    symlink("target", bench.path()).unwrap();
    let proposal = bench.world.plan(BLOCK, bench.block(json!({}))).await.unwrap();
    let obstacle = |message: &str| [Consequence::Obstacle { message: message.to_owned() }];
    assert_eq!(proposal.consequences, obstacle("there is a symbolic link at the path"));
    let error = bench.world.apply(BLOCK, bench.block(json!({}))).await.unwrap_err();
    assert_eq!(error.class, Class::Conflict);
    assert!(fs::symlink_metadata(bench.path()).unwrap().is_symlink());

    fs::remove_file(bench.path()).unwrap();
    bench.write(b"x\n");
    let proposal = bench.world.plan(BLOCK, bench.block(json!({ "after": "a(b" }))).await.unwrap();
    assert_eq!(proposal.consequences, obstacle("the regular expression is not valid: Unmatched ( or \\("));
    let error = bench.world.apply(BLOCK, bench.block(json!({ "after": "a(b" }))).await.unwrap_err();
    insta::assert_snapshot!(shown(&error, &bench.path()), @r"
    Invalid: cannot create block FILE#a on here: the regular expression is not valid: Unmatched ( or \(
    help: none
    ");
    assert_eq!(bench.text(), "x\n");
}

#[tokio::test]
async fn the_text_of_a_sensitive_block_is_not_shown() {
    let bench = Bench::new().await;
    bench.write(b"x\n");
    let mut desired = bench.block(json!({}));
    desired.insert("content".to_owned(), Value::from("s3cr3t").sensitive());
    let applied = bench.world.apply(BLOCK, desired.clone()).await.unwrap();
    assert!(applied.attributes["content"].is_sensitive());
    assert!(!format!("{:?}", bench.world.record(BLOCK)).contains("s3cr3t"));
    bench.write(bench.text().replace("s3cr3t", "guessed").as_bytes());
    let drift = bench.world.read(BLOCK, None).await.unwrap().unwrap();
    assert!(drift.attributes["content"].is_sensitive());
    bench.world.apply(BLOCK, desired).await.unwrap();
    assert!(bench.text().contains("s3cr3t"));
}

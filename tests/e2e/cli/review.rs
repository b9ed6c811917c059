//! The workflow files of `examples/review`, run by a script in place of the forge.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::folder::{BINARY, Folder};

const MANIFEST: &str = r#"
[variables.out]
type = "string"

[nodes.here]
transport = "local"

[resource.ssh_directory.out]
on   = "here"
path = "${var.out}"

[resource.ssh_file.greeting]
on      = "here"
path    = "${ssh_directory.out.path}/greeting"
content = "first line\nhello\n"
"#;

/// A forge with a repository, its runner and the keys of its plans.
struct Forge {
    folder: Folder,
    kind: &'static str,
}

struct Job {
    code: i32,
    text: String,
}

impl Forge {
    fn new(kind: &'static str) -> Self {
        let folder = Folder::empty();
        folder.write("site/main.toml", MANIFEST);
        folder.write("bin/README", "moorfast is here");
        std::os::unix::fs::symlink(BINARY, folder.path("bin/moorfast")).unwrap();
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "ci@example", "-f"])
            .arg(folder.path("plan-key"))
            .status();
        assert!(made.unwrap().success());
        folder.write("trusted/ci.pub", &folder.read("plan-key.pub"));
        let this = Self { folder, kind };
        this.expect(0, &["new", "site"]);
        this
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/review/forge.sh");
        let mut path = vec![self.folder.path("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(script);
        command
            .arg(self.kind)
            .args(arguments)
            .current_dir(self.folder.path(""))
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("MOORFAST_STATE", self.folder.path("state"))
            .env("MOORFAST_SIGN_KEY", self.folder.path("plan-key"))
            .env("MOORFAST_TRUSTED_KEYS", self.folder.path("trusted"))
            .env("MOORFAST_VAR_out", self.folder.path("out"))
            .env("MOORFAST_LOCK_TIMEOUT", "1s")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn expect(&self, code: i32, arguments: &[&str]) -> Job {
        let output = self.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let job = Job { code: output.status.code().unwrap_or(-1), text };
        assert_eq!(job.code, code, "{arguments:?}\n{}", job.text);
        job
    }

    fn comments(&self) -> String {
        self.expect(0, &["comments"]).text
    }

    fn number_of_comments(&self) -> usize {
        std::fs::read_dir(self.folder.path("forge/comments")).unwrap().count()
    }

    /// Whatever the pull request changes.
    fn write(&self, text: &str) {
        self.folder.write("site/main.toml", &MANIFEST.replace("hello", text));
    }

    fn greeting(&self) -> String {
        std::fs::read_to_string(self.folder.path("out/greeting")).unwrap_or_default()
    }
}

fn has_what_it_needs() -> bool {
    let missing: Vec<_> = ["git", "curl", "jq", "python3"].into_iter().filter(|tool| !is_there(tool)).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: the workflow files were not run: missing {}", missing.join(", "));
    }
    missing.is_empty()
}

fn is_there(tool: &str) -> bool {
    let paths: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    paths.iter().any(|folder| folder.join(tool).is_file())
}

#[test]
fn a_denied_plan_is_shown_and_not_applied() {
    if !has_what_it_needs() {
        return;
    }
    let forge = Forge::new("github");
    let policy = "\n[policy.none]\ncondition = '${length(plan.changes) == 0}'\nmessage = \"a freeze\"\n";
    forge.folder.write("site/main.toml", &format!("{MANIFEST}{policy}"));
    forge.expect(1, &["push", "site"]);
    let comments = forge.comments();
    assert!(comments.contains("**denied** <code>policy.none</code>: a freeze"), "{comments}");
    assert!(comments.contains("Plan: 2 to add"), "{comments}");
    assert_eq!(forge.greeting(), "");
}

fn review(kind: &'static str) {
    if !has_what_it_needs() {
        return;
    }
    let forge = Forge::new(kind);

    // A push is planned and the plan is shown. Nothing is changed.
    forge.expect(0, &["push", "site"]);
    assert!(forge.comments().contains("### Plan: 2 to add, 0 to change, 0 to destroy."), "{}", forge.comments());
    assert_eq!(forge.greeting(), "");
    // A second push changes the comment instead of adding one.
    forge.write("good day");
    forge.expect(0, &["push", "site"]);
    assert!(forge.comments().contains("good day") && !forge.comments().contains("hello"), "{}", forge.comments());
    assert_eq!(forge.number_of_comments(), 1);

    // Exactly the approved plan is applied.
    forge.expect(0, &["approve"]);
    assert_eq!(forge.greeting(), "first line\ngood day\n");
    assert!(forge.comments().contains("### Applied") && forge.comments().contains("2 added"), "{}", forge.comments());
    assert_eq!(forge.number_of_comments(), 2);
    // The plan is stale after its own apply.
    let again = forge.expect(4, &["approve"]);
    assert!(again.text.contains("the state changed since the plan was made"), "{}", again.text);
    assert!(forge.comments().contains("Run the plan job again"), "{}", forge.comments());

    // An object changes between review and approval.
    forge.write("good evening");
    forge.expect(0, &["push", "site"]);
    forge.folder.write("out/greeting", "somebody was here\n");
    forge.expect(4, &["approve"]);
    assert_eq!(forge.greeting(), "somebody was here\n");
    assert!(forge.comments().contains("### Not applied as reviewed"), "{}", forge.comments());
    // A new plan is applied.
    forge.expect(0, &["push", "site"]);

    // A plan that replaced the reviewed one is refused.
    let reviewed = forge.folder.read("forge/artifacts/plan.moorfast");
    let mut other: serde_json::Value = serde_json::from_str(&reviewed).unwrap();
    other.as_object_mut().unwrap().remove("signature");
    forge.folder.write("forge/artifacts/plan.moorfast", &other.to_string());
    assert!(forge.expect(1, &["approve"]).text.contains("the plan is not signed"));
    forge.folder.write("forge/artifacts/plan.moorfast", &reviewed);
    forge.expect(0, &["approve"]);
    assert_eq!(forge.greeting(), "first line\ngood evening\n");

    // An invalid manifest has no plan, and the comment has the error.
    forge.folder.write("site/main.toml", "[nodes.");
    forge.expect(1, &["push", "site"]);
    assert!(
        forge.comments().contains("### No plan") && forge.comments().contains("main.toml:1"),
        "{}",
        forge.comments()
    );
    assert_eq!(forge.number_of_comments(), 2);
}

#[test]
fn a_pull_request_on_github_is_planned_approved_and_applied() {
    review("github");
}

#[test]
fn a_merge_request_on_gitlab_is_planned_approved_and_applied() {
    review("gitlab");
}

#[test]
fn a_run_at_a_terminal_holds_the_lock_against_a_job() {
    if !has_what_it_needs() {
        return;
    }
    let forge = Forge::new("github");
    forge.expect(0, &["push", "site"]);
    forge.expect(0, &["approve"]);
    let gate = forge.folder.path("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let waits = format!(
        "{MANIFEST}\n[resource.ssh_exec.waits]\non = \"here\"\nscript = \"cat '{}' > /dev/null\"\ncreates = \"/nowhere\"\n",
        gate.display()
    );
    forge.folder.write("terminal/main.toml", &waits);
    let out = format!("-var=out={}", forge.folder.path("out").display());
    let state = forge.folder.path("state");
    let mut child = Command::new(BINARY)
        .args(["-C", "terminal", "--state"])
        .arg(&state)
        .args(["apply", "-auto-approve", &out])
        .current_dir(forge.folder.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    assert!(stderr.lines().any(|line| line.unwrap().contains("ssh_exec.waits[\"here\"]: Creating...")));

    forge.write("good day");
    let job = forge.expect(1, &["push", "site"]);
    assert!(job.text.contains("another run holds the lock"), "{}", job.text);
    assert!(
        forge.comments().contains("### No plan") && forge.comments().contains("wait for it"),
        "{}",
        forge.comments()
    );
    child.kill().unwrap();
    child.wait().unwrap();
    // The command that the run had started ends too.
    let mut gate = std::fs::OpenOptions::new().read(true).write(true).open(gate).unwrap();
    gate.write_all(b"go\n").unwrap();
    // The lock of a run that was killed is released.
    forge.expect(0, &["push", "site"]);
}

#[test]
fn equal_changes_on_fifty_nodes_are_grouped() {
    let nodes: String =
        (1..=50).map(|i| format!("[nodes.gpu{i:02}]\ntransport = \"local\"\nroles = [\"web\"]\n")).collect();
    let folder = Folder::new(
        r#"
[variables.port]
default = 8080
[resource.ssh_file.site]
on       = { role = "web" }
for_each = { blog = "listen 8080;", shop = "listen 8080 ssl;" }
path     = '${path.root}/out/${node.name}-${each.key}.conf'
parents  = true
content  = """
# ${each.key} on ${node.name}
server {
  ${replace(each.value, "8080", var.port)}
}
"""
"#,
    );
    folder.write("nodes.toml", &nodes);
    let reads = |run: &crate::support::folder::Run| run.stderr.lines().filter(|line| line.contains("Reading")).count();
    let run = folder.expect(0, &["apply", "-auto-approve"]);
    assert!(reads(&run) < 5, "{}", run.stderr);
    let run = folder.expect(0, &["plan", "-var", "port=9000", "-out", "p"]);
    run.says("ssh_file.site[\"*/blog\"] will be updated in place on 50 nodes");
    run.says("ssh_file.site[\"*/shop\"] will be updated in place on 50 nodes");
    assert!(reads(&run) < 5 && run.stdout.lines().count() < 50, "{}", run.stdout);
    let page = folder.expect(0, &["show", "p", "-markdown"]).stdout;
    assert!(page.lines().count() < 60, "{page}");
    assert_eq!(folder.expect(0, &["show", "p", "-html"]).stdout.matches("<details class=\"item").count(), 2);
    for arguments in [["plan", "-destroy"].as_slice(), &["plan", "-destroy", "-full"]] {
        let run = folder.expect(0, arguments);
        run.says("ssh_file.site[\"*/blog\"] will be destroyed on 50 nodes");
        assert!(run.stdout.lines().count() < 80, "{}", run.stdout);
    }
}

#[test]
fn two_sites_and_two_states_have_comments_of_their_own() {
    if !has_what_it_needs() {
        return;
    }
    let forge = Forge::new("github");
    let push = |site: &str, state: &str, code: i32| {
        let state = forge.folder.path(state);
        let output = forge.command(&["push", "site"]).env("MOORFAST_SITE", site).env("MOORFAST_STATE", state).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        forge.number_of_comments()
    };
    assert_eq!(push("sites/berlin", "state", 0), 1);
    assert_eq!(push("sites/paris", "state", 0), 2);
    assert_eq!(push("sites/paris", "state of production", 0), 3);
    assert_eq!(push("sites/berlin", "state", 0), 3);
    assert!(forge.comments().contains("Site <b>sites/berlin</b>, state "), "{}", forge.comments());
    // Without a plan the comment of the site reports the error, until the next plan.
    forge.folder.write("site/main.toml", "[nodes.");
    assert_eq!(push("sites/berlin", "state", 1), 3);
    assert_eq!(push("sites/rome & more", "state", 1), 4);
    forge.write("hello");
    assert_eq!(push("sites/rome & more", "state", 0), 4);
    assert_eq!(push("sites/berlin", "state", 0), 4);
    assert!(!forge.comments().contains("No plan"), "{}", forge.comments());
}

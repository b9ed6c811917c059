//! The commands of `docs/workflows`, word for word, and the units of `examples/drift-cron`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cli::manifests::PAIR;
use crate::support::folder::{BINARY, Folder};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the blocks of a page that are marked with `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/workflows").join(page)).unwrap();
    let start = format!("```{language}\n");
    let blocks = page.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// Applies a manifest and runs the `sh` blocks of the page, one after the other.
fn run_page(name: &str) -> Folder {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    run_blocks(name, &folder);
    folder
}

fn run_blocks(name: &str, folder: &Folder) {
    let blocks = blocks(name, "sh");
    assert!(!blocks.is_empty(), "{name} has no commands");
    for block in blocks {
        let run = folder.shell(&block);
        assert_eq!(run.code, 0, "{name}: {run}");
    }
}

#[test]
fn the_page_of_rolling_changes_works_as_written_on_this_machine() {
    let folder = Folder::empty();
    let manifest: String = blocks("rolling-change.md", "toml").concat();
    let place = format!("path    = \"{}", folder.path("").display());
    let manifest =
        manifest.replace("address = \"10.0.0.1", "transport = \"local\" # \"").replace("path    = \"/etc/", &place);
    folder.write("main.toml", &manifest);
    run_blocks("rolling-change.md", &folder);
    for node in ["gpu01", "gpu02", "gpu03"] {
        assert_eq!(folder.read(&format!("agent-{node}.conf")), "level = debug\n");
    }
    let plan = folder.expect(0, &["plan", "-var=level=warn"]);
    plan.says("rollout.workers: 3 nodes, 1 at a time: gpu01, gpu02, gpu03");
    plan.says("before the next node starts: check.agent healthy, each within 2m 0s");
}

#[test]
fn the_policies_of_the_review_page_accept_a_harmless_plan() {
    let folder = Folder::new(PAIR);
    folder.write("policies.toml", &blocks("review.md", "toml").concat());
    folder.expect(0, &["apply", "-auto-approve"]);
    // The window restricts only the apply.
    folder.expect(0, &["plan", "-destroy"]).says("3 to destroy");
}

#[test]
fn the_review_page_works_as_written() {
    let folder = run_page("review.md");
    assert!(folder.read("plan.html").starts_with("<!doctype html>") && folder.read("graph.svg").starts_with("<svg"));
    assert!(folder.read("comment.md").starts_with("<!-- moorfast:plan site="));
}

#[test]
fn the_drift_page_works_as_written_and_names_every_metric() {
    let folder = run_page("drift.md");
    let page = fs::read_to_string(root().join("docs/workflows/drift.md")).unwrap();
    for line in folder.read("moorfast.prom").lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
    folder.expect(0, &["drift", "--history"]).says("Last run at ");
}

#[test]
fn systemd_verifies_the_units() {
    let folder = Folder::empty();
    let units = root().join("examples/drift-cron/systemd");
    for name in ["moorfast-drift.service", "moorfast-drift.timer"] {
        let text = fs::read_to_string(units.join(name)).unwrap();
        folder.write(name, &text.replace("/usr/local/bin/moorfast", BINARY));
    }
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").args(["moorfast-drift.service", "moorfast-drift.timer"]).current_dir(folder.path(""));
    let Ok(output) = verify.output() else {
        eprintln!("SKIPPED: there is no systemd-analyze, so the units were not verified");
        return;
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("moorfast-drift"), "{stderr}");
}

#[test]
fn the_command_of_the_unit_runs() {
    let unit = fs::read_to_string(root().join("examples/drift-cron/systemd/moorfast-drift.service")).unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/moorfast ")).unwrap();
    let folder = Folder::new(PAIR);
    let here = |word: &str| word.replace("/etc/moorfast/site", ".").replace("/var/lib/", "");
    let words: Vec<_> = command.split(' ').map(here).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    folder.write("moorfast-metrics/README", "the folder is made by the unit");
    folder.expect(0, &["apply", "-auto-approve", "--state", "moorfast/site"]);
    folder.expect(0, &words);
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &words);
    folder.expect(0, &words).says("No new drift.");
    assert!(folder.read("moorfast-metrics/site.prom").contains("moorfast_drift_exit_code"));
}

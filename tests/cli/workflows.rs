//! The commands of `docs/workflows`, word for word, and the units of `examples/drift-cron`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Folder, PAIR};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs every block of the page that is marked `sh`, one after the other, in a folder with a manifest.
fn run_page(name: &str) -> Folder {
    let page = fs::read_to_string(root().join("docs/workflows").join(name)).unwrap();
    let blocks: Vec<_> = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "{name} has no commands");
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    let mut path = vec![PathBuf::from(env!("CARGO_BIN_EXE_moorfast")).parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    for block in blocks {
        let output = Command::new("sh")
            .args(["-eu", "-c", block])
            .current_dir(folder.path(""))
            .env("PATH", std::env::join_paths(&path).unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}:\n{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    folder
}

#[test]
fn the_review_page_works_as_written() {
    let folder = run_page("review.md");
    assert!(folder.read("plan.html").starts_with("<!doctype html>") && folder.read("graph.svg").starts_with("<svg"));
    assert!(folder.read("comment.md").starts_with("<!-- moorfast:plan -->"));
}

#[test]
fn the_drift_page_works_as_written_and_names_every_metric() {
    let folder = run_page("drift.md");
    let page = fs::read_to_string(root().join("docs/workflows/drift.md")).unwrap();
    for line in folder.read("moorfast.prom").lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
    folder.expect(0, &["drift", "--history"]).says("Looked last at ");
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    let folder = Folder::empty();
    let units = root().join("examples/drift-cron/systemd");
    for name in ["moorfast-drift.service", "moorfast-drift.timer"] {
        let text = fs::read_to_string(units.join(name)).unwrap();
        folder.write(name, &text.replace("/usr/local/bin/moorfast", env!("CARGO_BIN_EXE_moorfast")));
    }
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").args(["moorfast-drift.service", "moorfast-drift.timer"]).current_dir(folder.path(""));
    let Ok(output) = verify.output() else {
        eprintln!("SKIPPED: there is no systemd-analyze, so the units were not verified");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("moorfast-drift"), "{said}");
}

#[test]
fn the_command_of_the_unit_is_one() {
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

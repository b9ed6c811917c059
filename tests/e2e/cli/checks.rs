//! How checks are shown by a plan and by an apply, and which checks a partial run evaluates.

use crate::support::folder::Folder;

/// Nothing listens on port 1, so a check that is evaluated after the apply waits for 30 minutes.
const SITE: &str = r#"
[nodes.a]
transport = "local"

[nodes.b]
transport = "local"

[resource.ssh_file.x]
on      = "all"
path    = "${path.root}/${node.name}-x"
content = "x"

[resource.ssh_file.y]
on      = "a"
path    = "${path.root}/${node.name}-y"
content = "y"

[check.of_y]
depends_on = ["ssh_file.y"]
tcp        = { address = "127.0.0.1:1", retry_for = "30m" }

[check.on_b]
on  = "b"
tcp = { address = "127.0.0.1:1", retry_for = "30m" }

[check.value]
assert = [{ condition = "${1 < 2}", error_message = "Wrong." }]
"#;

#[test]
fn a_partial_run_does_not_wait_for_checks_of_other_resources() {
    let folder = Folder::new(SITE);
    let target = ["--target", "ssh_file.x[\"a\"]"];
    let apply = folder.expect(0, &[&["apply", "--auto-approve"], &target[..]].concat());
    apply.says("  skipped check.of_y, check.on_b[\"b\"] (not selected by --target, --exclude)\n  pass check.value\n");
    let plan = folder.expect(0, &[&["plan", "--json"], &target[..]].concat());
    plan.says("\"skipped\"");

    let excluded = folder.expect(0, &["plan", "--exclude", "ssh_file.y"]);
    excluded.says("  FAIL check.on_b[\"b\"]\n").says("  skipped check.of_y (");
}

#[test]
fn an_apply_shows_all_checks_once_and_failed_ones_before_it() {
    let folder = Folder::new(&SITE.replace(", retry_for = \"30m\"", ""));
    let apply = folder.expect(0, &["apply", "--auto-approve"]);
    let parts: Vec<_> = apply.stdout.split("Checks:\n").collect();
    let [_, before, after] = parts[..] else { panic!("{apply}") };
    assert!(before.starts_with("  FAIL check.on_b[\"b\"]\n"), "{apply}");
    assert!(!before.contains("check.of_y") && !before.contains("check.value"), "{apply}");
    assert!(after.contains("  FAIL check.of_y\n") && after.contains("  pass check.value\n"), "{apply}");

    let (resources, checks) = SITE.split_once("[check.of_y]").unwrap();
    let (_, passed) = checks.split_once("[check.value]").unwrap();
    let folder = Folder::new(&format!("{resources}[check.value]{passed}"));
    let apply = folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(apply.stdout.matches("Checks:").count(), 1, "{apply}");
}

//! The confirmation before an apply.

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

#[test]
fn only_yes_confirms() {
    let folder = Folder::new(PAIR);
    for answer in ["no\n", "y\n", "\n", "YES\n"] {
        let run = folder.run_with(&["apply"], answer);
        assert_eq!(run.code, 1, "{answer:?}");
        run.complains("Only `yes` is accepted to approve").complains("Nothing was changed.");
    }
    assert!(!folder.path("out").exists());
    let run = folder.run_with(&["apply"], "yes\n");
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.says("Apply complete!");
}

#[test]
fn a_missing_answer_is_an_error() {
    let folder = Folder::new(PAIR);
    folder.expect(1, &["apply"]).complains("standard input is closed").complains("--auto-approve");
    folder.expect(1, &["apply", "-input=false"]).complains("cannot ask for approval: --input=false");
    folder.expect(1, &["apply", "-json"]).complains("cannot ask for approval with --json");
    assert!(!folder.path("out").exists());
}

#[test]
fn an_empty_plan_asks_for_no_confirmation() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["apply"]).says("No changes.");
}

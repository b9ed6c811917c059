//! The confirmation before an apply.

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

#[test]
fn only_yes_confirms() {
    let folder = Folder::new(PAIR);
    for answer in ["no\n", "y\n", "\n", "YES\n"] {
        let run = folder.run_with(&["apply"], answer);
        assert_eq!(run.code, 1, "{answer:?}");
        run.complains("Only `yes` is taken as a yes").complains("Nothing was done.");
    }
    assert!(!folder.path("out").exists());
    let run = folder.run_with(&["apply"], "yes\n");
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.says("Apply complete!");
}

#[test]
fn a_missing_answer_is_an_error() {
    let folder = Folder::new(PAIR);
    folder.expect(1, &["apply"]).complains("nobody answered").complains("--auto-approve");
    folder.expect(1, &["apply", "-input=false"]).complains("there is nobody to ask");
    folder.expect(1, &["apply", "-json"]).complains("--json can't ask");
    assert!(!folder.path("out").exists());
}

#[test]
fn an_empty_plan_asks_for_no_confirmation() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["apply"]).says("No changes.");
}

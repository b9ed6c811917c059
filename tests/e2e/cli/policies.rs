//! A plan that a policy denies is shown and not applied.

use serde_json::Value as Json;

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

const NO_DESTROY: &str = r#"
[policy.no_destroy]
condition = "${plan.summary.remove == 0}"
message   = '${join(", ", [for c in plan.changes : c.address if contains(c.actions, "delete")])} would go'

[policy.few]
condition = "${length(plan.changes) <= 1}"
message   = "${length(plan.changes)} changes"
severity  = "warn"
"#;

/// Applies a manifest and then removes the secret from it.
fn denied() -> Folder {
    let folder = Folder::new(PAIR);
    folder.write("policies.toml", NO_DESTROY);
    folder.expect(0, &["apply", "-auto-approve"]).says("warning: policy.few: 3 changes");
    let (kept, rest) = PAIR.split_once("[resource.ssh_file.secret]").unwrap();
    folder.write("main.toml", &format!("{kept}{}", &rest[rest.find("[outputs.path]").unwrap()..]));
    folder
}

#[test]
fn a_denied_plan_is_shown_and_saved_as_evidence_only() {
    let folder = denied();
    let plan = folder.expect(1, &["plan", "-out=saved", "-detailed-exitcode"]);
    assert!(
        plan.stdout.starts_with(
            "This plan is denied by policies and cannot be applied:\n  ! policy.no_destroy: ssh_file.secret"
        )
    );
    plan.says("(policies.toml:2)").says("will be destroyed").says("Plan: 0 to add, 0 to change, 1 to destroy.");
    plan.complains("error[M0202]: policy.no_destroy denies this plan: ssh_file.secret[\"here\"] would go");
    plan.complains("policies.toml:3:").complains("Saved for review only");

    folder.expect(1, &["apply", "saved"]).complains("cannot apply this plan: the policy `policy.no_destroy` denied it");
    let shown: Json = serde_json::from_str(&folder.expect(0, &["show", "-json", "saved"]).stdout).unwrap();
    assert_eq!(shown["applyable"], false);
    assert_eq!(shown["policies"][1]["address"], "policy.no_destroy");
    assert_eq!(shown["policies"][1]["status"], "fail");
    folder.expect(0, &["show", "saved", "--markdown"]).says(":no_entry: **denied** <code>policy.no_destroy</code>");
    folder.expect(0, &["show", "saved", "--html"]).says("policy.no_destroy");
}

#[test]
fn a_denied_plan_is_not_applied() {
    let folder = denied();
    for command in [&["apply", "-auto-approve"], &["destroy", "-auto-approve"]] {
        folder.expect(1, command).complains("policy.no_destroy denies this plan").complains("Nothing was changed.");
        assert!(folder.read("out/secret").contains("s3cr3t"));
        assert!(folder.path("out/greeting").exists());
    }
    let line = folder.expect(1, &["apply", "-auto-approve", "-json"]);
    assert!(!line.stdout.contains("apply_start"), "{}", line.stdout);
    // The lock is free again.
    folder.write("policies.toml", "");
    folder.expect(0, &["apply", "-auto-approve"]).says("1 destroyed");
}

#[test]
fn policies_are_evaluated_again_before_a_saved_plan_is_applied() {
    let folder = Folder::new(PAIR);
    folder.write(
        "policies.toml",
        "[policy.window]\ncondition = '${!plan.applying}'\nmessage = \"not at ${plan.timestamp}\"\n",
    );
    folder.expect(0, &["plan", "-out=saved"]).says("Plan: 3 to add");
    folder
        .expect(1, &["apply", "saved"])
        .complains("policy.window denies this plan: not at 20")
        .complains("Nothing was changed.");
    assert!(!folder.path("out").exists());
}

#[test]
fn validate_reports_an_invalid_policy() {
    let folder = Folder::new(PAIR);
    folder.write(
        "policies.toml",
        "[policy.typo]\ncondition = '${alltrue([for c in plan.changes : c.adress != \"\"])}'\nmessage = \"x\"\n",
    );
    folder.expect(1, &["validate"]).complains("policies.toml:2:").complains("did you mean");
}

//! Values from the manifest to the state and back: numbers, durations, and attributes that a provider computes.

use crate::support::folder::Folder;

/// A command that runs again when one of its numbers changes, and the same numbers as outputs.
const NUMBERS: &str = r#"
[nodes.l]
transport = "local"

[locals]
numbers = [0.12088995980580641, 920.0864349327219, 1e-7, 5e-324, 1.7976931348623157e308, 9007199254740993.0]

[resource.ssh_exec.e]
on     = "l"
script = "echo x >> '${path.root}/ran'"
rerun_when = { ratio = 0.12088995980580641, numbers = "${local.numbers}", largest = "${18446744073709551615}" }

[outputs.numbers]
value = "${local.numbers}"

[outputs.largest]
value = "${18446744073709551615}"
"#;

#[test]
fn numbers_are_stored_exactly() {
    let folder = Folder::new(NUMBERS);
    folder.expect(0, &["plan", "--out", "reviewed.plan"]);
    folder.expect(0, &["apply", "reviewed.plan"]);
    for _ in 0..2 {
        folder.expect(0, &["apply", "--auto-approve"]);
    }
    assert_eq!(folder.read("ran"), "x\n");
    folder.expect(0, &["plan"]).says("No changes.");
    let outputs = folder.expect(0, &["output", "--json"]).stdout;
    for number in ["0.12088995980580641", "920.0864349327219", "5e-324", "9007199254740993", "18446744073709551615"] {
        assert!(outputs.contains(number), "{number} in {outputs}");
    }
}

#[test]
fn a_number_out_of_range_is_an_error_with_its_place() {
    for number in ["18446744073709551616", "9223372036854775808e1", "${18446744073709551616}", "${pow(2, 64)}"] {
        let written = if number.starts_with('$') { format!("'{number}'") } else { number.to_owned() };
        let folder = Folder::new(&format!("[outputs.o]\nvalue = {written}\n"));
        folder.expect(1, &["validate"]).complains("main.toml:2:");
    }
}

/// Every place of a manifest that takes a duration, as a literal or as the value of a variable.
const DURATIONS: [&str; 10] = [
    "[resource.ssh_exec.e]\non = \"l\"\nscript = \"true\"\ntimeout = \"DURATION\"",
    "[resource.ssh_exec.e]\non = \"l\"\nscript = \"true\"\ntimeout = \"${var.t}\"",
    "[resource.ssh_exec.e]\non = \"l\"\nscript = \"true\"\ntimeouts = { create = \"DURATION\" }",
    "[rollout.r]\nresources = [\"ssh_exec.r\"]\npause = \"DURATION\"\n[resource.ssh_exec.r]\non = \"l\"\nscript = \"true\"",
    "[rollout.r]\nresources = [\"ssh_exec.r\"]\ntimeout = \"DURATION\"\n[resource.ssh_exec.r]\non = \"l\"\nscript = \"true\"",
    "[check.c]\nhttp = { url = \"http://127.0.0.1:1\", timeout = \"DURATION\" }",
    "[check.c]\nhttp = { url = \"http://127.0.0.1:1\", retry_for = \"${var.t}\" }",
    "[providers.ssh]\nconnect_timeout = \"DURATION\"",
    "[providers.ssh]\nconnect_timeout = \"${var.t}\"",
    "[resource.ssh_systemd_unit.u]\non = \"l\"\nname = \"u.service\"\nsettle = \"${var.t}\"",
];

#[test]
fn a_duration_is_accepted_everywhere_or_nowhere() {
    let nodes = "[nodes.l]\ntransport = \"local\"\n[variables.t]\ndefault = \"DURATION\"\n";
    let folders = |duration: &'static str| {
        DURATIONS.map(|place| Folder::new(&format!("{nodes}{place}\n").replace("DURATION", duration)))
    };
    for duration in ["2d", "90s", "1h30m", "1h 30m", "1.5h", "250ms"] {
        folders(duration).iter().for_each(|folder| _ = folder.expect(0, &["validate"]));
        Folder::new("").expect(0, &["plan", "--lock-timeout", duration]);
    }
    for duration in ["2 days", "5 s", "1w", "90", "-5s", "PT5M", "", "soon", "200000d"] {
        folders(duration).iter().for_each(|folder| _ = folder.expect(1, &["validate"]).complains("15m or "));
        let flag = format!("--lock-timeout={duration}");
        Folder::new("").expect(1, &["plan", &flag]).complains("15m or ");
    }
}

/// A command whose output is used in every way in which an attribute can be used.
const COMPUTED: &str = r#"
[nodes.n1]
transport = "local"

[resource.ssh_exec.e]
on     = "n1"
script = "echo a,b"

[resource.ssh_file.f]
on      = "n1"
path    = "${path.root}/f"
content = "${ssh_exec.e.stdout}"

[resource.ssh_file.each]
on       = "n1"
for_each = { c = "${ssh_exec.e.stdout}", d = "known", e = "${sensitive(ssh_exec.e.stdout)}" }
path     = "${path.root}/${each.key}"
content  = "${each.value}"

[outputs.short]
value = "${trimspace(ssh_exec.e.stdout)}"

[outputs.key]
value = '${ssh_exec.e["n1"].stdout}'

[outputs.all]
value = "${[for name, e in ssh_exec.e : e.exit_code]}"

[outputs.unwritten]
value = "${ssh_exec.e.creates == null}"
"#;

#[test]
fn a_computed_attribute_is_unknown_before_the_apply() {
    let folder = Folder::new(COMPUTED);
    folder.expect(0, &["validate"]);
    let plan = folder.expect(0, &["plan"]);
    plan.says("n1/c = (known after apply)")
        .says("+ short     = (known after apply)")
        .says("+ key       = (known after apply)")
        .says("+ unwritten = true");
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(["f", "c", "d", "e"].map(|name| folder.read(name)), ["a,b\n", "a,b\n", "known", "a,b\n"]);
    folder.expect(0, &["output", "--json"]).says("\"a,b\"");
    folder.expect(0, &["plan"]).says("No changes.");
}

#[test]
fn the_use_of_an_attribute_before_it_is_known_is_an_error() {
    let cases = [
        (
            "[resource.ssh_file.g]\non = \"n1\"\nfor_each = '${split(\",\", ssh_exec.e.stdout)}'\npath = \"/nonexistent\"\ncontent = \"\"\n",
            "`for_each` is known only after apply: it depends on `ssh_exec.e`",
        ),
        (
            "[resource.ssh_file.g]\non = \"n1\"\nfor_each = '${[ssh_exec.e[\"n1\"].stdout]}'\npath = \"/nonexistent\"\ncontent = \"\"\n",
            "`for_each` is known only after apply: it depends on `ssh_exec.e`",
        ),
        (
            "[resource.ssh_file.g]\non = \"${ssh_exec.e.stdout}\"\npath = \"/nonexistent\"\ncontent = \"\"\n",
            "`on` must be known",
        ),
        (
            "[check.c]\nfor_each = '${ssh_exec.e}'\nhttp = { url = \"http://127.0.0.1:1\" }\n",
            "`for_each` is known only after apply",
        ),
        ("[outputs.nope]\nvalue = '${ssh_exec.e.nope}'\n", "this value has no attribute `nope`"),
        (
            "[nodes.n2]\ntransport = \"local\"\n[resource.ssh_exec.all]\non = \"all\"\nscript = \"true\"\n[outputs.one]\nvalue = '${ssh_exec.all.stdout}'\n",
            "write `ssh_exec.all[\"n1\"].stdout` for one instance, or `values(ssh_exec.all)[*].stdout` for all",
        ),
        (
            "[resource.ssh_exec.none]\non = \"n1\"\nfor_each = []\nscript = \"true\"\n[outputs.one]\nvalue = '${ssh_exec.none.stdout}'\n",
            "`ssh_exec.none` has no instances",
        ),
    ];
    for (more, message) in cases {
        Folder::new(&format!("{COMPUTED}{more}")).expect(1, &["validate"]).complains(message);
    }
}

use super::problems;

#[test]
fn all_errors_of_all_files_are_reported_at_once() {
    let text = problems(&[
        (
            "main.toml",
            r#"
[variables.region]
tpye = "string"

[variables.port]
type = "nubmer"
default = "x"

[variables.size]
type = "number"
default = "big"

[locals]
a = "${local.b}"
b = "${local.c} ${upper(local.a)}"
c = "${local.b}"

[nodes.gpu01]
adress = "10.0.0.1"

[resource.ssh_file.motd]
on = "all"
path = '/etc/motd'
content = "x ${var.regoin} ${uper(\"a\")}"
depends_on = ["ssh_file.mtod", "nonsense"]
timeouts = { craete = "5m", update = "5 minutes" }
lifecycle = { prevent_destory = true, ignore_changes = "content" }
precondition = { condition = "var.region == 1", error_message = "no" }

[resource.ssh_file.unbound]
path = "${node.name}/${each.key}/${self.path}"

[resource]
ssh_link.a = 5

[modules]
"#,
        ),
        (
            "more.toml",
            r#"
[resource.ssh_file.motd]
path = "${1 +}"

[data.ssh_facts.all]
restart_on = ["ssh_file.motd"]

[outputs.o]
description = "no value"

[check.empty]

[check.kubelet]
http = { url = "https://${var.region}:10250", expect_stauts = 401, timeout = "soon" }

[[moved]]
from = "ssh_file.a"

[import]
to = "ssh_file.motd"

[module.x]
source = "./x"
"#,
        ),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn syntax_errors_of_toml_are_readable() {
    let text = problems(&[
        ("a.toml", "[resource.ssh_file.x]\npath = /etc/motd\nmode = 0644\nowner = \"root\n"),
        ("b.toml", "[locals]\na = 1\na = 2\n[locals\n"),
        ("c.toml", "[locals]\nx = \"${file(\"motd\")}\"\n"),
        ("d.toml", "[resource.ssh_file.d]\ncontnet = '${vra.x}'\n"),
        (
            "e.toml",
            "[outputs.a]\nvalue = nodes.a.address\n[outputs.b]\nvalue = inventory\n[outputs.c]\nvalue = total\n",
        ),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_table_of_another_tool_or_without_resource_gets_the_right_header() {
    let text = problems(&[("main.toml", "[ssh_file.motd]\npath = '/etc/motd'\n[workspace]\nname = 'x'\n")]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_check_has_one_probe_and_can_send_it() {
    let text = problems(&[(
        "main.toml",
        r#"
[check.two]
http = { url = "https://localhost" }
tcp  = { address = "localhost:1", retry = "5s" }

[check.nothing]
from   = "all"
assert = [{ condition = '${1 == 1}', error_message = "No." }]

[check.this_machine]
ping = { address = "127.0.0.1" }

[check.answer]
tcp    = { address = "localhost:1" }
assert = [{ condition = '${self.status == 200}', error_message = "No." }]
"#,
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn errors_in_strings_with_escapes_are_marked_where_they_are() {
    let text = problems(&[(
        "main.toml",
        r#"
[locals]
a = "tab\there \"quoted\" é ${upper(\"a\") + vra.x}"
b = '''
first line
second ${nope("x")} line
'''
c = """\
   joined ${nope2()} line
   """
d = "${templatefile(\"x\", { a = 1, }) + ]}"
e = "%{ if true }x"
f = "curl -w %{http_code}"
"#,
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_circle_of_locals_is_shown() {
    let text = problems(&[(
        "main.toml",
        "[locals]\na = '${local.b}'\nb = ['${local.c}']\nc = { x = '${local.a}' }\nself = '${local.self}'\nok = '${local.a}'\n",
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn moves_that_contradict_the_manifest_are_errors() {
    let text = problems(&[(
        "main.toml",
        r#"
[resource.t.a]
provider = "t.prdo"
[providers.t.prod]
[backend.file]
path = "a"
[backend.other]
[[moved]]
from = "t.a"
to = "t.b"
[[moved]]
from = "t.a"
to = 't.a["x"]'
[[moved]]
from = "u.old"
to = "t.a"
[[removed]]
from = "t.a"
[[import]]
to = "t.c"
"#,
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn deep_keys_and_lists_do_not_overflow_the_stack() {
    for depth in [50, 1000, 100_000] {
        problems(&[("a.toml", &format!("[locals]\nx{} = 1\n", ".a".repeat(depth)))]);
        problems(&[("a.toml", &format!("[locals]\nx = {}{}\n", "[".repeat(depth), "]".repeat(depth)))]);
        problems(&[("a.toml", &format!("[locals.x{}]\ny = 1\n", ".a".repeat(depth)))]);
    }
}

proptest::proptest! {
    #[test]
    fn the_loader_never_panics(text in "[a-z0-9=\\[\\]{}\"'$%#,. \n]{0,80}", key in "(resource|data|nodes|variables|check|outputs|moved|providers)") {
        problems(&[("a.toml", &text), ("b.toml", &format!("[{key}.x.y]\n{text}")), ("c.toml", &format!("[{key}]\nx = '${{{}}}'", text.replace(['\'', '\n'], "")))]);
    }
}

#[test]
fn policies_and_rollouts_refer_to_existing_blocks() {
    let text = problems(&[(
        "rules.toml",
        r#"
[nodes.gpu01]
roles = ["worker"]

[locals]
motd = "${ssh_file.motd}"
far = "${local.motd}"
odd = "${plan.mode}"

[resource.ssh_file.motd]
on = "all"
path = "/etc/motd"
content = "${plan.mode}"

[check.kubelet]
http = { url = "https://localhost" }

[policy.empty]

[policy.typo]
condition = "plan.mode == 1"
mesage = "x"
severity = "denny"

[policy.world]
condition = '${length(ssh_file.motd) == 1 && local.far != "" && node.name == "" && var.window}'
message = "${lenght(plan.changes)}"

[rollout.nothing]

[rollout.workers]
roles = ["worker"]
nodes = ["gpu1"]
resources = ["ssh_file.mtod", 'ssh_file.motd["gpu01"]']
max_unavailable = 0
pause = "a while"
gates = ["ssh_file.mod", "check.kublet", "nonsense"]
timeout = 5
timout = "5m"

[rollout.share]
nodes = "gpu01"
max_unavailable = "250%"
"#,
    )]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_rollout_waits_for_existing_rollouts_and_drains_by_a_resource() {
    let text = problems(&[(
        "main.toml",
        r#"
[nodes.gpu01]

[rollout.workers]
nodes = ["gpu01"]
after = ["rollout.wrokers", "check.a"]
drain = { timeout = "soon", force = "yes", ignore_daemonsets = true }

[rollout.others]
nodes = ["gpu01"]
drain = { resource = 'kubernetes_node.a["gpu01"]' }

[rollout.last]
nodes = ["gpu01"]
drain = { resource = "kubernetes_node.a", resources = ["ssh_file.motd"] }
"#,
    )]);
    for part in [
        "unknown rollout `wrokers`",
        "`check.a` is not a rollout",
        "`drain` of the rollout `workers` has no `resource`",
        "`soon` is not a duration",
        "`force` must be",
        "unknown attribute `ignore_daemonsets` in `drain` of the rollout `workers`",
        "`kubernetes_node.a[\"gpu01\"]` cannot be drained",
        "the manifest has no `kubernetes_node.a`",
        "the manifest has no `ssh_file.motd`",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

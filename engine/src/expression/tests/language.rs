use super::{Expr, TestScope, compare, expression, template};
use crate::model::Span;
use crate::provider::Redaction;

#[test]
fn literals_and_operators() {
    compare(
        &[
            ("null", "null"),
            ("true", "true"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("[1, \"a\", [true]]", "[1, \"a\", [true]]"),
            ("{ a = 1, \"b c\" = 2, (var.name) = 3 }", "{\"a\": 1, \"b c\": 2, \"gpu\": 3}"),
            ("{\n a = 1\n b: 2\n}", "{\"a\": 1, \"b\": 2}"),
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("7 / 2", "3.5"),
            ("8 / 2", "4"),
            ("-7 % 3", "-1"),
            ("-var.count", "-3"),
            ("\"5\" + 1", "6"),
            ("1 / 0", "division by zero in `/` at «1 / 0»"),
            ("tostring(9223372036854775807 + 1)", "\"9223372036854775808\""),
            ("1 < 2 && !(2 >= 3)", "true"),
            ("1 == 1.0", "true"),
            ("\"1\" == 1", "false"),
            ("[1, { a = 2 }] == [1, { a = 2.0 }]", "true"),
            ("var.none == null", "true"),
            ("false && var.nope", "false"),
            ("true || var.nope", "true"),
            ("var.on ? \"yes\" : var.nope", "\"yes\""),
            ("[] && true", "`&&` needs bools, not a list at «[] && true»"),
            ("1 + \"x\"", "`+` needs numbers, not a string at «1 + \"x\"»"),
            ("var.name ? 1 : 2", "a condition must be true or false, not a string at «var.name»"),
        ],
        expression,
    );
}

#[test]
fn traversals_and_splats() {
    compare(
        &[
            ("var.map.y.z[1]", "20"),
            ("var.map[\"y\"].z.0", "10"),
            ("var.list[var.count - 1]", "\"c\""),
            ("var.users[*].name", "[\"ann\", \"bob\"]"),
            ("var.users[*].groups[0]", "[\"g1\", \"g1\"]"),
            ("var.users.*.groups[0]", "[\"g1\"]"),
            (
                "var.users[*]",
                "[{\"groups\": [\"g1\"], \"name\": \"ann\"}, {\"groups\": [\"g1\", \"g2\"], \"name\": \"bob\"}]",
            ),
            ("var.none[*].x", "[]"),
            ("var.map[*].x", "[1]"),
            ("{ a = [1] }.a[0]", "1"),
            ("ssh_file.motd.path", "\"/etc/motd\""),
            ("ssh_file.motd[\"gpu01\"].path", "\"/gpu01\""),
            ("ssh_file.motd[node.name].path", "\"/any\""),
            ("data.ssh_facts.all[\"gpu01\"].path", "\"/gpu01\""),
            ("node.address", "\"10.0.0.1\""),
            ("var.map.w", "this value has no attribute `w` at «w» (did you mean `x`?)"),
            ("var.users[0].nmae", "this value has no attribute `nmae` at «nmae» (did you mean `name`?)"),
            ("var.list[3]", "the list has the indices 0 to 2, not 3 at «3»"),
            (
                "var.list.first",
                "this value is a list at «first» (select one item by its index, or all items with `[*]`)",
            ),
            ("var.none.x", "this value is null and has no attributes at «x»"),
            ("var.nmae", "unknown variable `nmae` at «var.nmae» (did you mean `name`?)"),
            ("var", "`var` alone is not a value at «var» (name a member, as in `var.region`)"),
            (
                "hello",
                "`hello` is not a known name at «hello» (a reference is `var.NAME`, `local.NAME`, `node.address` or `TYPE.NAME`; write `$${hello}` for the literal text `${hello}`)",
            ),
        ],
        expression,
    );
}

#[test]
fn comprehensions() {
    compare(
        &[
            ("[for x in var.list : upper(x)]", "[\"A\", \"B\", \"C\"]"),
            ("[for i, x in var.list : \"${i}${x}\" if i > 0]", "[\"1b\", \"2c\"]"),
            ("[for k, v in { b = 2, a = 1 } : \"${k}=${v}\"]", "[\"a=1\", \"b=2\"]"),
            ("{ for u in var.users : u.name => length(u.groups) }", "{\"ann\": 1, \"bob\": 2}"),
            (
                "{ for p in flatten([for u in var.users : [for g in u.groups : { g = g, n = u.name }]]) : p.g => p.n... }",
                "{\"g1\": [\"ann\", \"bob\"], \"g2\": [\"bob\"]}",
            ),
            (
                "{ for x in [\"a\", \"a\"] : x => 1 }",
                "the key `a` is produced twice at «x» (add `...` after the value to group the values of one key in a list)",
            ),
            ("[for var in [1] : var]", "[1]"),
            ("[for x in 5 : x]", "`for` iterates over a list or a map, not a number at «5»"),
            ("[for x in [1] : [for y in [x] : x + y]]", "[[2]]"),
        ],
        expression,
    );
}

#[test]
fn templates() {
    compare(
        &[
            ("plain $X $(cmd) 100% $ %", "\"plain $X $(cmd) 100% $ %\""),
            ("$${a} and %%{b}", "\"${a} and %{b}\""),
            ("${var.count}", "3"),
            ("${ var.list }", "[\"a\", \"b\", \"c\"]"),
            ("n=${var.count}, b=${var.on}", "\"n=3, b=true\""),
            ("${\"a\"}${\"b\"}", "\"ab\""),
            ("${\"${var.name}01\"}", "\"gpu01\""),
            ("%{ if var.on }yes%{ else }no%{ endif }", "\"yes\""),
            ("%{ if !var.on }yes%{ endif }", "\"\""),
            ("%{ for x in var.list }[${x}]%{ endfor }", "\"[a][b][c]\""),
            ("a\n%{ for x in var.list ~}\n- ${x}\n%{ endfor ~}\nz", "\"a\\n- a\\n- b\\n- c\\nz\""),
            ("a  ${~ var.name ~}  b", "\"agpub\""),
            ("a\n  %{~ if true ~}\n  x\n  %{~ endif ~}\n  b", "\"a\\n  x\\n  b\""),
            ("${<<EOT\n  a ${var.name}\nEOT\n}", "\"  a gpu\\n\""),
            ("${<<-EOT\n    a\n      b\n    EOT\n}", "\"a\\n  b\\n\""),
            ("x ${var.none}", "this value is null and cannot be part of a text at «var.none»"),
            ("x ${var.list}", "a list cannot be part of a text: convert it with `jsonencode` or `join` at «var.list»"),
        ],
        template,
    );
}

#[test]
fn all_errors_of_a_string_are_reported() {
    compare(
        &[(
            "${var.nmae} and ${var.lsit}",
            "unknown variable `nmae` at «var.nmae» (did you mean `name`?); unknown variable `lsit` at «var.lsit» (did you mean `list`?)",
        )],
        template,
    );
}

#[test]
fn syntax_errors_have_their_place() {
    compare(
        &[
            ("a ${var.x", "this is not a valid expression at «»: the text ends before `}` here"),
            ("a ${1 +} b", "this is not a valid expression at «}»: an expression is expected here"),
            (
                "a ${var.x y} b",
                "this is not a valid expression at «y»: a `}` is expected here (the expression ends here; write `$${` for a literal `${`)",
            ),
            ("a ${var.} b", "this is not a valid expression at «}»: a name, an index or `*` is expected after the `.`"),
            (
                "%{ if true }x",
                "this is not a valid expression at «%{»: this directive is not closed or is unknown (close every `%{ if … }` with `%{ endif }` and every `%{ for … in … }` with `%{ endfor }`; write `%%{` for a literal `%{`)",
            ),
        ],
        template,
    );
}

#[test]
fn results_of_unknown_values_are_unknown() {
    compare(
        &[
            ("var.unknown", "(known after apply)"),
            ("var.unknown + 1", "(known after apply)"),
            ("var.unknown.a[0]", "(known after apply)"),
            ("var.unknown ? 1 : 2", "(known after apply)"),
            ("[for x in var.unknown : x]", "(known after apply)"),
            ("[for x in [1, 2] : x if var.unknown == x]", "(known after apply)"),
            ("[1, var.unknown]", "[1, (known after apply)]"),
            ("length([1, var.unknown])", "2"),
            ("merge({ a = 1 }, { b = var.unknown }).a", "1"),
            ("jsonencode({ a = var.unknown })", "(known after apply)"),
            ("join(\",\", [\"a\", var.unknown])", "(known after apply)"),
            ("zipmap([\"a\", \"b\"], [var.unknown, 1]).b", "1"),
            ("zipmap([var.unknown], [1])", "(known after apply)"),
            ("false && var.unknown", "false"),
            ("var.unknown && false", "false"),
            ("var.unknown || false", "(known after apply)"),
            ("coalesce(var.none, \"a\", var.unknown)", "\"a\""),
            ("try(var.partly.known, 1)", "\"k\""),
            ("\"x ${var.retained}\"", "(as applied before)"),
            ("\"${var.retained} ${var.unknown}\"", "(known after apply)"),
            ("upper(var.retained)", "(as applied before)"),
            ("var.retained == \"x\"", "(as applied before)"),
            ("var.secret_unknown", "(sensitive)"),
            ("templatefile(\"config.tpl\", { node_ip = var.unknown, roles = [] })", "(known after apply)"),
        ],
        expression,
    );
}

#[test]
fn a_sensitive_value_knows_the_secrets_in_it() {
    let mut wrong = Vec::new();
    for text in [
        "\"Bearer ${var.secret}\"",
        "\"Bearer %{if true}${var.secret}%{endif}\"",
        "\"%{for s in [var.secret]}Bearer ${s}%{endfor}\"",
        "\"a ${\"Bearer ${var.secret}\"}\"",
        "format(\"Bearer %s\", var.secret)",
        "jsonencode(var.partly_secret)",
        "base64encode(\"user:${var.secret}\")",
        "templatefile(\"config.tpl\", { node_ip = var.secret, roles = [] })",
        "[\"Bearer ${var.secret}\"]",
        "sensitive({ a = \"Bearer ${var.secret}\" })",
        // The keys of a map.
        "{ \"Bearer ${var.secret}\" = 1 }",
        "{ for x in [1] : \"Bearer ${var.secret}\" => x }",
        "{ for x in [1] : \"Bearer ${var.secret}\" => x... }",
        "zipmap([\"Bearer ${var.secret}\"], [1])",
        "jsonencode({ (var.secret) = 1 })",
        "yamlencode({ for x in [1] : var.secret => x })",
        "join(\",\", keys({ (var.secret) = 1 }))",
        // What is taken out of a value that is sensitive as a whole.
        "sensitive({ a = \"Bearer ${var.secret}\" }).a",
        "sensitive({ a = \"Bearer ${var.secret}\" })[\"a\"]",
        "sensitive([\"Bearer ${var.secret}\"])[0]",
        "sensitive([\"Bearer ${var.secret}\"])[*]",
        "sensitive([{ a = \"Bearer ${var.secret}\" }]).*.a",
        "jsondecode(jsonencode({ a = base64encode(var.secret) })).a",
        "split(\" \", base64encode(\"user:${var.secret}\"))[0]",
        "[for x in sensitive([base64encode(var.secret)]) : \"Bearer ${x}\"][0]",
        "{ for k, v in sensitive({ a = base64encode(var.secret) }) : k => v }",
        "\"%{for x in sensitive([base64encode(var.secret)])}${x}%{endfor}\"",
        "values(sensitive({ a = base64encode(var.secret) }))[0]",
        "merge(sensitive({ a = base64encode(var.secret) }), {}).a",
        "coalesce(sensitive([base64encode(var.secret)])...)",
        "templatefile(\"config.tpl\", sensitive({ node_ip = base64encode(var.secret), roles = [] }))",
        "values(kubernetes_documents({ a = yamlencode({ kind = \"A\", apiVersion = \"v1\", metadata = { name = \"a\" }, x = base64encode(var.secret) }) }))[0].x",
        // Numbers.
        "\"pin ${jsondecode(sensitive(\"{\\\"pin\\\": 471100}\")).pin} ${var.secret}\"",
    ] {
        let expr = Expr::expression(text, Span { file: 0, start: 0, end: text.len() }).unwrap();
        let value = expr.evaluate(&TestScope::new()).unwrap();
        let shown = Redaction::of([&value]).text("the server quotes s3cr3t and 471100");
        let expected = match text.contains("pin") {
            true => "the server quotes (sensitive) and (sensitive)",
            false => "the server quotes (sensitive) and 471100",
        };
        if shown != expected {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn results_of_sensitive_values_are_sensitive() {
    compare(
        &[
            ("var.secret", "(sensitive)"),
            ("\"x ${var.secret}\"", "(sensitive)"),
            ("upper(var.secret)", "(sensitive)"),
            ("var.secret == \"x\"", "(sensitive)"),
            ("var.secret == \"x\" ? 1 : 2", "(sensitive)"),
            ("[var.secret, 1]", "[(sensitive), 1]"),
            ("{ (var.secret) = 1 }", "(sensitive)"),
            ("var.secret_map.hidden", "(sensitive)"),
            ("[for k, v in var.secret_map : 1]", "(sensitive)"),
            ("[for x in [1] : x if var.secret == \"y\"]", "(sensitive)"),
            ("{ for x in [1] : var.secret => x }", "(sensitive)"),
            ("var.secret_map[*].hidden", "(sensitive)"),
            ("var.partly_secret.open", "\"o\""),
            ("merge(var.partly_secret, {}).open", "\"o\""),
            ("jsonencode(var.partly_secret)", "(sensitive)"),
            ("length(var.secret_map)", "(sensitive)"),
            ("keys(var.partly_secret)", "[\"hidden\", \"open\"]"),
            ("templatefile(\"config.tpl\", { node_ip = var.secret, roles = [] })", "(sensitive)"),
            ("zipmap([var.secret], [1])", "(sensitive)"),
            ("zipmap([\"a\"], [var.secret])", "{\"a\": (sensitive)}"),
            ("issensitive(var.secret)", "true"),
            ("issensitive(nonsensitive(var.secret))", "false"),
            ("nonsensitive(var.secret)", "\"s3cr3t\""),
            ("sensitive(\"a\")", "(sensitive)"),
            ("coalesce(sensitive(\"\"), \"a\")", "(sensitive)"),
            // Errors do not show the content.
            ("var.secret_map.s3cr3", "this sensitive value has no such key at «s3cr3»"),
            (
                "templatestring(sensitive(\"$${s3cr3t} \"), {})",
                "the template cannot be rendered; the reason is not shown because the template or its variables are sensitive at «templatestring(sensitive(\"$${s3cr3t} \"), {})»",
            ),
            (
                "parseint(var.secret, 10)",
                "`parseint` does not accept its arguments; they are not shown because one is sensitive at «parseint(var.secret, 10)»",
            ),
            (
                "[for k, v in var.secret_map : file(v)]",
                "`file` does not accept its arguments; they are not shown because one is sensitive at «file(v)»",
            ),
            (
                "{ for x in [var.secret, var.secret] : x => 1 }",
                "a key is produced twice at «x» (add `...` after the value to group the values of one key in a list)",
            ),
        ],
        expression,
    );
}

#[test]
fn references_are_found_without_evaluating() {
    use super::super::{Expr, Reference};
    use crate::model::{ResourceAddress, Span};
    let text = "[for x in var.a : x.y + local.b] == node.name ? ssh_file.m[\"k\"].path : data.t.n[each.key]";
    let expr = Expr::expression(text, Span { file: 0, start: 0, end: text.len() }).unwrap();
    let found: Vec<Reference> = expr.references().into_iter().map(|(reference, _)| reference).collect();
    let resource =
        |resource, key: Option<&str>, any| Reference::Resource { resource, key: key.map(str::to_owned), any };
    assert_eq!(
        found,
        [
            Reference::Variable("a".to_owned()),
            Reference::Local("b".to_owned()),
            Reference::Node,
            resource(ResourceAddress::managed("ssh_file", "m"), Some("k"), false),
            resource(ResourceAddress::data("t", "n"), None, true),
            Reference::Each,
        ]
    );
}

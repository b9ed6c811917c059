use proptest::prelude::*;

use super::*;
use crate::model::number::number_text;

/// Returns the JSON of the document, or the error.
fn read(text: &str) -> String {
    match yaml_document(text) {
        Ok(value) => json(&value),
        Err(error) => error.to_string(),
    }
}

fn json(value: &Value) -> String {
    match value {
        Value::Number(number) => number_text(number),
        Value::Map(map) => {
            let members: Vec<_> = map.iter().map(|(key, value)| format!("{key:?}:{}", json(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        other => other.to_json().unwrap_or_default().to_string(),
    }
}

/// The expected values are the output of `YAMLToJSON` of `sigs.k8s.io/yaml` v1.6.0.
#[test]
fn scalars_are_read_as_kubectl_reads_them() {
    let cases = [
        ("0400 0644 -0400 +0400 00 000 0_400 0o400 0O17 -0o17", "256 420 -256 256 0 0 256 256 15 -15"),
        ("08 0899 -08 0. 00.5", "8 899 -8 0 0.5"),
        ("0x1F 0X1f -0x1F +0x1F 0x_1F 0xFFFFFFFFFFFFFFFF", "31 31 -31 31 31 18446744073709551615"),
        ("0b101 -0b101 0B101", "5 -5 5"),
        (
            "1_000 1_ 1__0 1_0.5_0 1_000.5 685_230.15 685.230_15e+03 .5_0",
            "1000 1 10 10.5 1000.5 685230.15 685230.15 0.5",
        ),
        (
            "+12 -0 1e3 1e+3 1E+3 1.5e3 1. .5 -.5 +.5 .5e+2 1.0 5.00 1e-3",
            "12 0 1000 1000 1000 1500 1 0.5 -0.5 0.5 50 1 5 0.001",
        ),
        (
            "9223372036854775807 9223372036854775808 18446744073709551615",
            "9223372036854775807 9223372036854775808 18446744073709551615",
        ),
        ("y Y yes Yes YES true True TRUE on On ON", "true true true true true true true true true true true"),
        (
            "n N no No NO false False FALSE off Off OFF",
            "false false false false false false false false false false false",
        ),
        ("~ null Null NULL", "null null null null"),
        (
            "!!str:123 !!str:yes !!int:'12' !!float:3 !!bool:'yes' !!null:'' !!binary:aGk=",
            "\"123\" \"yes\" 12 3 true null \"hi\"",
        ),
        ("!!timestamp:2001-01-01 !foo:bar !foo:12 !:yes !!int:0o17", "\"2001-01-01\" \"bar\" \"12\" \"yes\" 15"),
    ];
    for (written, expected) in cases {
        for (written, expected) in written.split(' ').zip(expected.split(' ')) {
            let written = if written.starts_with('!') { written.replacen(':', " ", 1) } else { written.to_owned() };
            assert_eq!(read(&format!("a: {written}")), format!("{{\"a\":{expected}}}"), "{written}");
        }
    }
    let texts = [
        "_1",
        "190:20:30",
        "12:30:45",
        "yEs",
        "tRUE",
        "nULL",
        "2001-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "1,000",
        "1 000",
        "0.1.2",
        "1-2",
        "123abc",
        "0x",
        "0b",
        "0o",
        "0b12",
        "0o8",
        "+",
        ".",
        "..",
        "Infinity",
        "inf",
        "nan",
        "=",
        "1e400",
        "1e+400",
        "0xFFFFFFFFFFFFFFFFF",
        "00:16:3e",
        "1.2.3.4",
        "100m",
        "1Gi",
        "v1",
        "-1-",
        "0x1p4",
        "1e",
        "+-1",
        "--1",
    ];
    for text in texts {
        assert_eq!(read(&format!("a: {text}")), format!("{{\"a\":{text:?}}}"));
    }
    assert_eq!(read("a: '0400'\nb: \"yes\"\nc: |-\n  0400\n"), r#"{"a":"0400","b":"yes","c":"0400"}"#);
}

#[test]
fn keys_merges_and_anchors_are_read_as_kubectl_reads_them() {
    let cases = [
        (
            "1: a\n1.5: b\ntrue: c\n0400: d\n2001-01-01: e",
            r#"{"1":"a","1.5":"b","2001-01-01":"e","256":"d","true":"c"}"#,
        ),
        ("yes: a", r#"{"true":"a"}"#),
        ("b: &b {x: 1}\nc: {<<: *b, z: 2}", r#"{"b":{"x":1},"c":{"x":1,"z":2}}"#),
        ("b: &b {x: 1}\nc: {<<: *b, x: 2}", r#"{"b":{"x":1},"c":{"x":2}}"#),
        ("b: &b {x: 1}\nc: {x: 2, <<: *b}", r#"{"b":{"x":1},"c":{"x":1}}"#),
        ("b: &b {x: 1}\nc: {<<: [*b, {x: 3, z: 3}]}", r#"{"b":{"x":1},"c":{"x":1,"z":3}}"#),
        ("c: {<<: {a: 1}, <<: {b: 2}}", r#"{"c":{"a":1,"b":2}}"#),
        ("c: {'<<': {a: 1}}", r#"{"c":{"<<":{"a":1}}}"#),
        ("a: &x 0400\nb: *x\nc: &x 2\nd: *x", r#"{"a":256,"b":256,"c":2,"d":2}"#),
        ("a: !!set {b, c}", r#"{"a":{"b":null,"c":null}}"#),
        ("a:\nb: ''", r#"{"a":null,"b":""}"#),
        ("", "null"),
        ("# nothing\n---\n---\na: 1\n---\n", r#"{"a":1}"#),
        ("%YAML 1.1\n---\na: 0400", r#"{"a":256}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn an_error_has_its_place_in_the_text() {
    let cases = [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: duplicate key `a`"),
        ("a: {b: 1, b: 2}", "line 1, column 11: duplicate key `b`"),
        ("1: a\n'1': b", "line 2, column 1: duplicate key `1`"),
        ("null: c", "line 1, column 1: a key must be a string, not null; write it in quotes"),
        ("? [a, b]\n: c", "line 1, column 3: a key must be a string, not a list"),
        ("a: .inf", "line 1, column 4: infinity and NaN cannot be stored"),
        ("a: -.Inf", "line 1, column 4: infinity and NaN cannot be stored"),
        ("a: .NaN", "line 1, column 4: infinity and NaN cannot be stored"),
        (
            "a: 18446744073709551616",
            "line 1, column 4: this number cannot be represented exactly: whole numbers have 64 bits and fractions about 16 digits",
        ),
        ("a: &a [*a]", "line 1, column 8: this alias refers to a value that contains it"),
        ("a: !!int x", "line 1, column 10: the value does not match its tag `!!int`"),
        ("a: !!int 1.5", "line 1, column 10: the value does not match its tag `!!int`"),
        ("c: {<<: 1}", "line 1, column 9: `<<` needs a map or a list of maps"),
        (
            "---\na: 1\n---\nb: 2\n---\nc: 3\n",
            "line 4, column 1: a second document starts here, and one is expected; this text has 3 documents",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), expected, "{text}");
    }
    for text in ["a: *x", "a: [", "a: b: c", "a: @x", "a: 'x", "a: 1\n b: 2"] {
        let error = yaml_document(text).unwrap_err();
        assert!(error.line > 0 && !error.message.contains("serde") && !error.message.is_empty(), "{text}: {error}");
    }
}

#[test]
fn aliases_of_aliases_do_not_exhaust_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        text += &format!("a{i}: &a{i} [{list}]\n");
    }
    assert!(read(&text).contains("more than 1000000 values"), "{}", read(&text));
}

#[test]
fn documents_have_their_first_line() {
    let documents = yaml_documents("# first\na: 1\n---\n---\n- x\n...\n---\nb\n").unwrap();
    let found: Vec<_> = documents.iter().map(|document| (document.line, json(&document.value))).collect();
    assert_eq!(found.iter().filter(|(_, json)| json != "null").map(|(line, _)| *line).collect::<Vec<_>>(), [2, 5, 8]);
}

proptest! {
    #[test]
    fn the_reader_never_panics(text in any::<String>(), odd in "[-+:?*&!|>{}\\[\\],#'\"%@` \n\ta-c0-9.~_<é]{0,60}") {
        for text in [text, odd] {
            if let Err(error) = yaml_documents(&text) {
                prop_assert!(error.line > 0 && error.column > 0);
            }
        }
    }
}

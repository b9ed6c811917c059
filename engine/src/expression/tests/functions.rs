use super::{compare, expression};

#[test]
fn number_functions() {
    compare(
        &[
            ("abs(-2)", "2"),
            ("ceil(1.2)", "2"),
            ("floor(-1.2)", "-2"),
            ("log(8, 2)", "3"),
            ("max(1, 5, 3)", "5"),
            ("min([4, 2]...)", "2"),
            ("parseint(\"ff\", 16)", "255"),
            ("parseint(\"xyz\", 10)", "`xyz` is not a whole number in base 10 at «parseint(\"xyz\", 10)»"),
            ("pow(2, 10)", "1024"),
            ("signum(-3)", "-1"),
            ("sum([1, 2.5])", "3.5"),
        ],
        expression,
    );
}

/// Evaluates the text. Of an error, returns only the summary.
fn summary(text: &str) -> String {
    expression(text).split(" at «").next().unwrap_or_default().to_owned()
}

#[test]
fn a_whole_number_of_any_size_is_exact_or_an_error() {
    let inexact = "cannot be represented exactly: whole numbers have 64 bits and fractions about 16 digits";
    let result = format!("the result {inexact}");
    let of = |symbol: &str| format!("the result of `{symbol}` {inexact}");
    let written = |text: &str| format!("`{text}` {inexact}");
    let cases: Vec<(&str, String)> = vec![
        ("18446744073709551615", "18446744073709551615".into()),
        ("-9223372036854775808", "-9223372036854775808".into()),
        ("18446744073709551616", written("18446744073709551616")),
        ("9007199254740993.0", "9007199254740993".into()),
        ("9223372036854775807 + 1", "9223372036854775808".into()),
        ("18446744073709551615 + 1", of("+")),
        ("-9223372036854775808 - 1", of("-")),
        ("4294967296 * 4294967296", of("*")),
        ("18446744073709551615 - 18446744073709551614", "1".into()),
        ("18446744073709551615 / 5", "3689348814741910323".into()),
        ("18446744073709551615 / 2", of("/")),
        ("18446744073709551615 % 10", "5".into()),
        ("9007199254740993 + 0.5", of("+")),
        ("1 / 0", "division by zero in `/`".into()),
        ("1.5 % 0", "division by zero in `%`".into()),
        ("18446744073709551615 > 18446744073709551614", "true".into()),
        ("18446744073709551615 == 18446744073709551614", "false".into()),
        ("-(9223372036854775808)", "-9223372036854775808".into()),
        ("[1, 2][18446744073709551615]", "the list has the indices 0 to 1, not 18446744073709551615".into()),
        ("[1, 2][0.5]", "the index of a list must be a whole number, not a number".into()),
        ("abs(-9223372036854775808)", "9223372036854775808".into()),
        ("ceil(18446744073709551615)", "18446744073709551615".into()),
        ("floor(9007199254740993)", "9007199254740993".into()),
        ("ceil(0.1)", "1".into()),
        ("signum(18446744073709551615)", "1".into()),
        ("max(18446744073709551614, 18446744073709551615)", "18446744073709551615".into()),
        ("min(-0.5, 18446744073709551615)", "-0.5".into()),
        ("pow(2, 62)", "4611686018427387904".into()),
        ("pow(2, 63)", "9223372036854775808".into()),
        ("pow(2, 64)", result.clone()),
        ("pow(-2, 63)", "-9223372036854775808".into()),
        ("pow(-1, 18446744073709551615)", "-1".into()),
        ("pow(0, 0)", "1".into()),
        ("pow(10, 20)", "1e+20".into()),
        ("pow(2, 18446744073709551615)", result.clone()),
        ("pow(0.1, 2)", "0.01".into()),
        ("pow(1.5, 0)", "1".into()),
        ("pow(0.25, 0.5)", "0.5".into()),
        ("pow(2, -1)", "0.5".into()),
        ("pow(0, -1)", "the result is not a finite number".into()),
        ("pow(-8, 0.5)", "the result is not a finite number".into()),
        ("log(1000, 10)", "3".into()),
        ("log(0, 10)", "the result is not a finite number".into()),
        ("sum([9223372036854775807, 1])", "9223372036854775808".into()),
        ("sum([18446744073709551615, 1])", of("+")),
        ("parseint(\"ffffffffffffffff\", 16)", "18446744073709551615".into()),
        ("parseint(\"10000000000000000\", 16)", result.clone()),
        ("parseint(\"ffffffffffffffffffffffffffffffffffffffff\", 16)", result.clone()),
        ("parseint(\"-8000000000000000\", 16)", "-9223372036854775808".into()),
        ("parseint(\"1.5\", 10)", "`1.5` is not a whole number in base 10".into()),
        (
            "parseint(\"1\", 18446744073709551615)",
            "`base` of `parseint` must be a whole number from 2 to 36, not 18446744073709551615".into(),
        ),
        ("parseint(\"1\", -10)", "`base` of `parseint` must be a whole number from 2 to 36, not -10".into()),
        ("cidrhost(\"fd00::/64\", 18446744073709551615)", "\"fd00::ffff:ffff:ffff:ffff\"".into()),
        ("cidrhost(\"fd00::/64\", 18446744073709551616)", written("18446744073709551616")),
        ("cidrhost(\"fd00::/64\", -18446744073709551615)", written("-18446744073709551615")),
        ("cidrhost(\"fd00::/64\", -9223372036854775808)", "\"fd00::8000:0:0:0\"".into()),
        ("cidrhost(\"fd00::/63\", 1e19)", "\"fd00::8ac7:2304:89e8:0\"".into()),
        ("cidrhost(\"fd00::/60\", 1e20)", "\"fd00::5:6bc7:5e2d:6310:0\"".into()),
        ("cidrhost(\"10.0.0.0/8\", 1e20)", "10.0.0.0/8 has no host number 100000000000000000000".into()),
        ("cidrhost(\"10.0.0.0/8\", 1.5)", "`number` of `cidrhost` must be a whole number, not 1.5".into()),
        (
            "cidrhost(\"10.0.0.0/8\", \"18446744073709551616\")",
            format!("`number` of `cidrhost`: {}", written("18446744073709551616")),
        ),
        ("cidrsubnet(\"2001:db8::/32\", 64, 18446744073709551615)", "\"2001:db8:ffff:ffff:ffff:ffff::/96\"".into()),
        ("cidrsubnet(\"2001:db8::/32\", 64, 18446744073709551616)", written("18446744073709551616")),
        ("cidrsubnet(\"2001:db8::/32\", 18446744073709551615, 0)", "2001:db8::/32 has only 96 host bits".into()),
        ("cidrsubnet(\"10.0.0.0/8\", -1, 0)", "10.0.0.0/8 has only 24 host bits".into()),
        ("cidrsubnet(\"::/0\", 128, 18446744073709551615)", "\"::ffff:ffff:ffff:ffff/128\"".into()),
        ("cidrsubnet(\"10.0.0.0/8\", 0, 0)", "\"10.0.0.0/8\"".into()),
        ("cidrsubnets(\"::/0\", 1, 1)", "[\"::/1\", \"8000::/1\"]".into()),
        ("cidrsubnets(\"::/0\", 1, 1, 1)", "::/0 has no room for another network with 1 additional bits".into()),
        (
            "cidrsubnets(\"0.0.0.0/0\", 1, 1, 1)",
            "0.0.0.0/0 has no room for another network with 1 additional bits".into(),
        ),
        ("cidrsubnets(\"::/0\", 0)", "[\"::/0\"]".into()),
        ("cidrsubnets(\"::/0\", 0, 0)", "::/0 has no room for another network with 0 additional bits".into()),
        ("element([1, 2, 3], 18446744073709551615)", "1".into()),
        ("element([1, 2, 3], 1e20)", "2".into()),
        ("element([1], 0.5)", "`index` of `element` must be a whole number, not 0.5".into()),
        ("element([], 1)", "`element` cannot select from an empty list".into()),
        ("chunklist([1], 18446744073709551615)", "[[1]]".into()),
        (
            "chunklist([1], 1e20)",
            "`size` of `chunklist` must be a whole number of at least 0, not 100000000000000000000".into(),
        ),
        ("chunklist([1], -1)", "`size` of `chunklist` must be a whole number of at least 0, not -1".into()),
        ("slice([1], 0, 18446744073709551615)", "`slice` exceeds the 1 items of the list".into()),
        ("slice([1], 1, 0)", "`slice` exceeds the 1 items of the list".into()),
        ("slice([1], -1, 1)", "`start` of `slice` must be a whole number of at least 0, not -1".into()),
        ("range(18446744073709551613, 18446744073709551615)", "[18446744073709551613, 18446744073709551614]".into()),
        ("range(9007199254740992, 9007199254740995)", "[9007199254740992, 9007199254740993, 9007199254740994]".into()),
        ("range(0, 1e20)", "`range` produces at most 1024 numbers".into()),
        ("range(0, 0.5, 0.1)", "[0, 0.1, 0.2, 0.3, 0.4]".into()),
        ("0.1 + 0.2", "0.3".into()),
        ("0.1 + 0.2 == 0.3", "true".into()),
        ("1.1 * 1.1", "1.21".into()),
        ("0.3 / 0.1", "3".into()),
        ("1 - 0.9", "0.1".into()),
        ("0.7 % 0.1", "0".into()),
        ("-7 % 3", "-1".into()),
        ("1 / 3", "0.3333333333333333".into()),
        ("2 / 3 * 3", "1.9999999999999998".into()),
        ("10 / 4", "2.5".into()),
        ("1e300 * 0.5", "5e+299".into()),
        ("1e-300 * 1e-300", of("*")),
        ("sum([0.1, 0.2, 0.3])", "0.6".into()),
        ("range(0, 1, 0)", "`range` never reaches its limit with this step".into()),
        ("range(5, 5)", "[]".into()),
        ("substr(\"abc\", 18446744073709551615, 1)", "\"\"".into()),
        ("substr(\"abc\", 1e20, 1)", "\"\"".into()),
        ("substr(\"abc\", 0, 1e20)", "\"abc\"".into()),
        ("substr(\"abc\", -1e20, 1)", "\"a\"".into()),
        ("substr(\"abc\", 0.5, 1)", "`offset` of `substr` must be a whole number, not 0.5".into()),
        (
            "indent(18446744073709551615, \"a\")",
            "`spaces` of `indent` must be a whole number from 0 to 1024, not 18446744073709551615".into(),
        ),
        ("indent(-1, \"a\")", "`spaces` of `indent` must be a whole number of at least 0, not -1".into()),
        ("format(\"%d\", 12345678901234567890)", "\"12345678901234567890\"".into()),
        ("format(\"%d\", \"12345678901234567890\")", "\"12345678901234567890\"".into()),
        ("format(\"%d\", 1.5)", "`%d` of `format` needs a whole number, not 1.5".into()),
        ("format(\"%x %X %o %b\", -255, -255, -8, -5)", "\"-ff -FF -10 -101\"".into()),
        ("format(\"%#x %#X %#o %#b\", 255, 255, 8, 5)", "\"0xff 0XFF 010 0b101\"".into()),
        ("format(\"%x\", 18446744073709551615)", "\"ffffffffffffffff\"".into()),
        (
            "format(\"%05d|%+d|% d|%.3d\", -42, 18446744073709551615, 7, 5)",
            "\"-0042|+18446744073709551615| 7|005\"".into(),
        ),
        (
            "format(\"%f %.0f\", 9007199254740993, 18446744073709551615)",
            "\"9007199254740993.000000 18446744073709551615\"".into(),
        ),
        (
            "format(\"%e\", 9007199254740993)",
            "`%e` of `format` needs a number of at most 53 bits, not 9007199254740993".into(),
        ),
        (
            "format(\"%99999999999999999999d\", 1)",
            "`format`: 99999999999999999999 is not a width, a precision or an index from 0 to 1024".into(),
        ),
        ("format(\"%.5000f\", 1)", "`format`: 5000 is not a width, a precision or an index from 0 to 1024".into()),
        ("tonumber(\"18446744073709551615\")", "18446744073709551615".into()),
        ("tonumber(\"18446744073709551616\")", format!("`value` of `tonumber`: {}", written("18446744073709551616"))),
        ("tostring(18446744073709551615)", "\"18446744073709551615\"".into()),
        ("jsondecode(\"9007199254740993.0\")", "9007199254740993".into()),
        (
            "jsondecode(\"[18446744073709551616]\")",
            format!("this JSON cannot be used: {}", written("18446744073709551616")),
        ),
        (
            "jsonencode(jsondecode(\"[1.0, 18446744073709551615, 0.12088995980580641]\"))",
            "\"[1,18446744073709551615,0.12088995980580641]\"".into(),
        ),
        ("tomldecode(\"a = 9007199254740993.0\").a", "9007199254740993".into()),
        ("tomldecode(\"a = 1e400\").a", format!("this TOML cannot be used: {}", written("1e400"))),
        (
            "tomldecode(\"a = inf\").a",
            "this TOML cannot be used: `inf` cannot be used: infinity and NaN cannot be stored".into(),
        ),
        ("tomldecode(\"a = 2026-01-31T12:00:00Z\").a", "\"2026-01-31T12:00:00Z\"".into()),
        ("yamlencode(18446744073709551615)", "\"18446744073709551615\\n\"".into()),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|(text, expected)| (*text, expected.as_str())).collect();
    compare(&cases, summary);
}

#[test]
fn string_functions() {
    compare(
        &[
            ("chomp(\"a\\n\\n\")", "\"a\""),
            ("endswith(\"abc\", \"bc\")", "true"),
            (
                "format(\"%s-%02d %.2f %q %t %v%%\", \"a\", 7, 1.005, \"x\", true, [1])",
                "\"a-07 1.00 \\\"x\\\" true [1]%\"",
            ),
            (
                "format(\"%-5s|%5s|%x|%X|%o|%b|%+d|%e\", \"a\", \"b\", 255, 255, 8, 5, 3, 1500)",
                "\"a    |    b|ff|FF|10|101|+3|1.500000e+03\"",
            ),
            ("format(\"%[2]s %[1]s\", \"a\", \"b\")", "\"b a\""),
            ("format(\"%s\")", "`format` has more verbs than values at «format(\"%s\")»"),
            ("format(\"x\", 1)", "`format` has more values than verbs at «format(\"x\", 1)»"),
            ("formatlist(\"%s:%d\", [\"a\", \"b\"], 80)", "[\"a:80\", \"b:80\"]"),
            ("indent(2, \"a\\nb\")", "\"a\\n  b\""),
            ("join(\", \", [\"a\", 1], [true])", "\"a, 1, true\""),
            ("lower(\"AB\")", "\"ab\""),
            ("regex(\"[a-z]+\", \"12ab34\")", "\"ab\""),
            ("regex(\"(\\\\d+)-(\\\\d+)\", \"1-2\")", "[\"1\", \"2\"]"),
            ("regex(\"(?P<year>\\\\d+)\", \"in 2026\").year", "\"2026\""),
            ("regex(\"x\", \"abc\")", "`abc` does not match `x` at «regex(\"x\", \"abc\")»"),
            ("regexall(\"[a-z]\", \"a1b\")", "[\"a\", \"b\"]"),
            ("replace(\"a.b.c\", \".\", \"-\")", "\"a-b-c\""),
            ("replace(\"a1b22\", \"/[0-9]+/\", \"<$0>\")", "\"a<1>b<22>\""),
            ("split(\",\", \"a,b\")", "[\"a\", \"b\"]"),
            ("split(\",\", \"\")", "[\"\"]"),
            ("startswith(\"abc\", \"ab\")", "true"),
            ("strcontains(\"abc\", \"d\")", "false"),
            ("strrev(\"abc\")", "\"cba\""),
            ("substr(\"hello\", 1, 3)", "\"ell\""),
            ("substr(\"hello\", -3, -1)", "\"llo\""),
            ("templatestring(\"a $${x}\", { x = 1 })", "\"a 1\""),
            ("title(\"hello wide world\")", "\"Hello Wide World\""),
            ("trim(\"?!a!\", \"!?\")", "\"a\""),
            ("trimprefix(\"ab\", \"a\")", "\"b\""),
            ("trimspace(\" a \")", "\"a\""),
            ("trimsuffix(\"ab\", \"b\")", "\"a\""),
            ("upper(5)", "\"5\""),
            ("upper([])", "`text` of `upper` must be a string, not a list at «upper([])»"),
            ("upper()", "`upper` has too few arguments at «upper» (its signature is `upper(text)`)"),
            ("uper(\"a\")", "unknown function `uper` at «uper» (did you mean `upper`?)"),
        ],
        expression,
    );
}

#[test]
fn collection_functions() {
    compare(
        &[
            ("alltrue([true, \"true\"])", "true"),
            ("anytrue([])", "false"),
            ("chunklist([1, 2, 3], 2)", "[[1, 2], [3]]"),
            ("coalesce(null, \"\", \"a\")", "\"a\""),
            ("coalescelist([], [1])", "[1]"),
            ("compact([\"a\", \"\", null])", "[\"a\"]"),
            ("concat([1], [2, 3])", "[1, 2, 3]"),
            ("contains([1, 2], 2.0)", "true"),
            ("distinct([1, 1, 2])", "[1, 2]"),
            ("element([\"a\", \"b\"], 3)", "\"b\""),
            ("element([\"a\", \"b\"], -1)", "\"b\""),
            ("flatten([[1, [2]], 3])", "[1, 2, 3]"),
            ("index([\"a\", \"b\"], \"b\")", "1"),
            ("keys({ b = 1, a = 2 })", "[\"a\", \"b\"]"),
            ("length(\"äb\")", "2"),
            ("lookup({ a = 1 }, \"b\", 5)", "5"),
            (
                "lookup({ a = 1 }, \"b\")",
                "the map has no key `b`, and no default is given at «lookup({ a = 1 }, \"b\")»",
            ),
            ("matchkeys([\"i1\", \"i2\"], [\"a\", \"b\"], [\"b\"])", "[\"i2\"]"),
            ("merge({ a = 1 }, { a = 2, b = 3 })", "{\"a\": 2, \"b\": 3}"),
            ("one([5])", "5"),
            ("one([])", "null"),
            ("range(3)", "[0, 1, 2]"),
            ("range(1, 8, 3)", "[1, 4, 7]"),
            ("range(3, 0)", "[3, 2, 1]"),
            ("reverse([1, 2])", "[2, 1]"),
            ("setintersection([1, 2], [2, 3])", "[2]"),
            ("setproduct([\"a\", \"b\"], [1, 2])", "[[\"a\", 1], [\"a\", 2], [\"b\", 1], [\"b\", 2]]"),
            ("setsubtract([1, 2], [2])", "[1]"),
            ("setunion([2], [1, 2])", "[1, 2]"),
            ("slice([1, 2, 3], 1, 3)", "[2, 3]"),
            ("slice([1], 0, 3)", "`slice` exceeds the 1 items of the list at «slice([1], 0, 3)»"),
            ("sort([\"b\", \"a\"])", "[\"a\", \"b\"]"),
            ("toset([\"b\", \"a\", \"b\"])", "[\"a\", \"b\"]"),
            ("transpose({ a = [\"1\", \"2\"], b = [\"2\"] })", "{\"1\": [\"a\"], \"2\": [\"a\", \"b\"]}"),
            ("values({ b = 1, a = 2 })", "[2, 1]"),
            ("zipmap([\"a\", \"b\"], [1, 2])", "{\"a\": 1, \"b\": 2}"),
        ],
        expression,
    );
}

#[test]
fn encoding_functions() {
    compare(
        &[
            ("base64encode(\"hi\")", "\"aGk=\""),
            ("base64decode(\"aGk=\")", "\"hi\""),
            ("base64gunzip(base64gzip(\"hi\"))", "\"hi\""),
            ("base64gzip(\"a\") == base64gzip(\"a\")", "true"),
            ("textencodebase64(\"hé\", \"UTF-16LE\")", "\"aADpAA==\""),
            ("textdecodebase64(\"aADpAA==\", \"utf-16le\")", "\"hé\""),
            ("textencodebase64(\"é\", \"iso-8859-1\")", "\"6Q==\""),
            ("filebase64sha256(\"motd\") == base64sha256(\"hello\\n\")", "true"),
            (
                "uuid()",
                "unknown function `uuid` at «uuid» (its result differs in every plan; use `uuidv5`, which depends only on its arguments)",
            ),
            (
                "textencodebase64(\"é\", \"ebcdic\")",
                "unknown encoding `ebcdic`: the encodings are `UTF-8`, `UTF-16LE`, `UTF-16BE`, `US-ASCII` and `ISO-8859-1` at «textencodebase64(\"é\", \"ebcdic\")»",
            ),
            ("csvdecode(\"a,b\\n1,\\\"x, y\\\"\\n\")", "[{\"a\": \"1\", \"b\": \"x, y\"}]"),
            ("jsonencode({ b = [1, null], a = \"x\" })", "\"{\\\"a\\\":\\\"x\\\",\\\"b\\\":[1,null]}\""),
            ("jsondecode(\"{\\\"a\\\": [1.5]}\").a[0]", "1.5"),
            ("tomldecode(\"a = [1]\").a", "[1]"),
            ("tomlencode({ a = { b = 1 } })", "\"[a]\\nb = 1\\n\""),
            ("urlencode(\"a b/c\")", "\"a+b%2Fc\""),
            ("yamldecode(\"a:\\n- 1\\n- x: true\\n\")", "{\"a\": [1, {\"x\": true}]}"),
        ],
        expression,
    );
}

#[test]
fn yaml_is_written_in_the_usual_style() {
    let value = r##"yamlencode({
        apiVersion = "v1", kind = "List", version = "1.10", port = 10250, on = "on", empty = {}, none = [], nothing = null,
        items = [{ name = "a", tags = ["x: y", "# no", "it's", "0755", "true"] }, [1, 2]],
        script = "#!/bin/sh\nset -e\n\necho hi\n", url = "https://10.0.0.1:8443", "key: odd" = "", date = "2026-01-01",
        args = ["--v=2", "-x", "- y", "---", "-5", "<<", "a b", "@x", "*", "{{ x }}", "12:30", "0x1F", "1e3", "[a]", "a:b", "x\ty\u0085"]
    })"##;
    let found = expression(value);
    let text: String = serde_json::from_str(&found).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn file_functions() {
    compare(
        &[
            ("file(\"motd\")", "\"hello\\n\""),
            ("filebase64(\"motd\")", "\"aGVsbG8K\""),
            ("fileexists(\"nope\")", "false"),
            ("fileset(\".\", \"**/*.conf\")", "[\"conf.d/a.conf\"]"),
            ("fileset(\".\", \"*.{tpl,md}\")", "[\"broken.tpl\", \"config.tpl\", \"typo.tpl\"]"),
            ("filesha256(\"motd\") == sha256(\"hello\\n\")", "true"),
            ("fileblake3(\"motd\") == blake3(\"hello\\n\")", "true"),
            ("basename(\"/a/b.c\")", "\"b.c\""),
            ("dirname(\"/a/b.c\")", "\"/a\""),
            (
                "templatefile(\"config.tpl\", { node_ip = \"10.0.0.1\", roles = [\"a\", \"b\"] })",
                "\"node_ip: 10.0.0.1\\n- a\\n- b\\n\"",
            ),
            (
                "templatefile(\"typo.tpl\", { node_ip = 1 })",
                "typo.tpl:2:6: the template has no variable `nodeip` at «templatefile(\"typo.tpl\", { node_ip = 1 })»: in the template: b: ${nodeip} (did you mean `node_ip`?)",
            ),
            (
                "templatefile(\"broken.tpl\", { node_ip = 1 })",
                "broken.tpl:2:1: this is not a valid expression: a `}` is expected here at «templatefile(\"broken.tpl\", { node_ip = 1 })»: in the template: b: 1 (the expression ends here; write `$${` for a literal `${`)",
            ),
            ("file(\"conf.d\")", "src/expression/tests/files/conf.d is not a file at «file(\"conf.d\")»"),
            ("file(\"/dev/zero\")", "/dev/zero is not a file at «file(\"/dev/zero\")»"),
            ("file(\"nope\")", "the file src/expression/tests/files/nope does not exist at «file(\"nope\")»"),
        ],
        expression,
    );
}

#[test]
fn kubernetes_documents_are_keyed_by_kind_namespace_and_name() {
    let a = r#""{apiVersion: v1, kind: Secret, metadata: {name: a}}""#;
    let cases = [
        (
            r#"keys(kubernetes_documents(["objects/web.yaml"]))"#.to_owned(),
            r#"["Deployment/web/frontend", "Namespace/web"]"#,
        ),
        (
            r#"keys(kubernetes_documents(fileset(".", "objects/w*.yaml")))"#.to_owned(),
            r#"["Deployment/web/frontend", "Namespace/web"]"#,
        ),
        (r#"kubernetes_documents(file("objects/web.yaml"))["Namespace/web"].kind"#.to_owned(), r#""Namespace""#),
        (format!("keys(kubernetes_documents({{ \"a.yaml\" = sensitive({a}) }}))"), r#"["Secret/a"]"#),
        (format!("kubernetes_documents({{ \"a.yaml\" = sensitive({a}) }})"), r#"{"Secret/a": (sensitive)}"#),
        (format!("kubernetes_documents(sensitive({a}))"), "(sensitive)"),
        ("kubernetes_documents({ a = var.unknown })".to_owned(), "(known after apply)"),
    ];
    compare(&cases.each_ref().map(|(text, expected)| (text.as_str(), *expected)), expression);
}

#[test]
fn versions_of_kubernetes_that_must_not_run_side_by_side() {
    let cases = [
        (r#"kube_apiserver = "v1.34.4", kubelet = ["1.34.0", "1.31.9"], kube_scheduler = "1.33.1""#, "[]"),
        (r#"kube_apiserver = ["1.34.4", "1.33.0"], kubelet = "v1.33.2", kube_controller_manager = "1.33.0""#, "[]"),
        (r#"kubelet = "1.30.0""#, "[]"),
        (r#"kube_apiserver = null, kubelet = """#, "[]"),
        (
            r#"kube_apiserver = ["1.35.0", "1.33.0"]"#,
            r#"["kube-apiserver 1.33.0 and 1.35.0 must not run at the same time: they may be one minor version apart"]"#,
        ),
        (
            r#"kube_apiserver = ["1.34.0", "1.33.0"], kubelet = { gpu01 = "v1.34.0", gpu02 = "1.33.0" }"#,
            r#"["kubelet 1.34.0 (gpu01) must not be newer than kube-apiserver 1.33.0"]"#,
        ),
        (
            r#"kube_apiserver = "1.34.0", kube_proxy = "1.30.5""#,
            r#"["kube-proxy 1.30.5 may be at most 3 minor versions older than kube-apiserver 1.34.0"]"#,
        ),
        (
            r#"kube_apiserver = "1.34.0", kube_scheduler = "1.32.0""#,
            r#"["kube-scheduler 1.32.0 may be at most one minor version older than kube-apiserver 1.34.0"]"#,
        ),
        (r#"kube_apiserver = var.unknown"#, "(known after apply)"),
        (r#"kube_apiserver = "latest""#, "`latest` is not a version of Kubernetes, such as 1.34.4"),
        (r#"kubelets = "1.34.0""#, "`kubelets` is not a component of Kubernetes; did you mean `kubelet`?"),
    ];
    for (versions, expected) in cases {
        assert_eq!(summary(&format!("kubernetes_version_skew({{ {versions} }})")), expected, "{versions}");
    }
}

#[test]
fn an_error_in_kubernetes_documents_names_the_file_and_the_line() {
    for (text, expected) in [
        (
            r#"kubernetes_documents(["objects/web.yaml", "objects/more.yaml"])"#,
            "Namespace/web is written twice: objects/web.yaml, line 1, and objects/more.yaml, line 1",
        ),
        (r#"kubernetes_documents({ "a.yaml" = "a: [" })"#, "a.yaml, line 1, column 4: "),
        (
            r#"kubernetes_documents("kind: X")"#,
            "the text, line 1: the object has no `apiVersion`, or it is not a string",
        ),
        ("kubernetes_documents([])", "`files` of `kubernetes_documents` contains no objects"),
        (
            "kubernetes_documents([1])",
            "`files` of `kubernetes_documents` must be a list of paths, a map of texts or a text, not a list",
        ),
        (r#"kubernetes_documents(["web.yaml"])"#, "the file src/expression/tests/files/web.yaml does not exist"),
        (
            r#"kubernetes_documents({ a = sensitive("s3cr3t") })"#,
            "`kubernetes_documents` does not accept its arguments; they are not shown because one is sensitive",
        ),
    ] {
        let found = summary(text);
        assert!(found.starts_with(expected), "{text}: {found}");
    }
}

#[test]
fn reading_a_file_records_its_digest() {
    use super::super::{Expr, Scope as _};
    let text = "file(\"motd\")";
    let scope = super::TestScope::new();
    let expr = Expr::expression(text, crate::model::Span { file: 0, start: 0, end: text.len() }).unwrap();
    expr.evaluate(&scope).unwrap();
    let read = scope.files().read.lock().unwrap();
    assert_eq!(read.get(std::path::Path::new("motd")), Some(&moorfast_state::Digest::of(b"hello\n")));
}

#[test]
fn digest_network_and_time_functions() {
    compare(
        &[
            ("md5(\"a\")", "\"0cc175b9c0f1b6a831c399e269772661\""),
            ("sha1(\"a\")", "\"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8\""),
            ("sha256(\"a\")", "\"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\""),
            ("base64sha256(\"a\")", "\"ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=\""),
            ("uuidv5(\"dns\", \"www.example.com\")", "\"2ed6657d-e927-568b-95e1-2665a8aea6a2\""),
            ("cidrhost(\"10.12.112.0/20\", 16)", "\"10.12.112.16\""),
            ("cidrhost(\"10.12.112.0/20\", -1)", "\"10.12.127.255\""),
            ("cidrhost(\"fd00:fd12:3456:7890::/72\", 34)", "\"fd00:fd12:3456:7890::22\""),
            ("cidrhost(\"10.0.0.0/30\", 4)", "10.0.0.0/30 has no host number 4 at «cidrhost(\"10.0.0.0/30\", 4)»"),
            ("cidrnetmask(\"172.16.0.0/12\")", "\"255.240.0.0\""),
            ("cidrsubnet(\"172.16.0.0/12\", 4, 2)", "\"172.18.0.0/16\""),
            (
                "cidrsubnet(\"10.0.0.0/8\", 25, 0)",
                "10.0.0.0/8 has only 24 host bits at «cidrsubnet(\"10.0.0.0/8\", 25, 0)»",
            ),
            (
                "cidrsubnets(\"10.1.0.0/16\", 4, 4, 8, 4)",
                "[\"10.1.0.0/20\", \"10.1.16.0/20\", \"10.1.32.0/24\", \"10.1.48.0/20\"]",
            ),
            ("formatdate(\"DD MMM YYYY hh:mm ZZZ\", \"2018-01-02T23:12:01Z\")", "\"02 Jan 2018 23:12 UTC\""),
            (
                "formatdate(\"EEEE, DD-MMM-YY 'at' HH:mm:ss AA Z\", \"2018-01-02T23:12:01+01:00\")",
                "\"Tuesday, 02-Jan-18 at 11:12:01 PM +01:00\"",
            ),
            ("timeadd(\"2017-11-22T00:00:00Z\", \"-10m\")", "\"2017-11-21T23:50:00Z\""),
            ("timecmp(\"2017-11-22T00:00:00Z\", \"2017-11-22T01:00:00+01:00\")", "0"),
        ],
        expression,
    );
}

#[test]
fn conversion_functions() {
    compare(
        &[
            ("try(var.nope, 1)", "1"),
            (
                "try(var.nope, var.nope2)",
                "every argument of `try` failed at «try(var.nope, var.nope2)» (the last error is: unknown variable `nope2`)",
            ),
            ("can(var.map.q)", "false"),
            ("can(var.map.x)", "true"),
            ("can(regex(\"^[a-z]+$\", var.name))", "true"),
            ("tobool(\"true\")", "true"),
            ("tolist([1])", "[1]"),
            ("tomap({ a = 1 })", "{\"a\": 1}"),
            ("tonumber(\"1.5\")", "1.5"),
            (
                "tonumber(\"a\")",
                "`value` of `tonumber` must be a number or a string that contains a number, not a string at «tonumber(\"a\")»",
            ),
            ("tostring(1.0)", "\"1\""),
            ("type({ a = [1, 2], b = \"x\" })", "\"object({a = list(number), b = string})\""),
        ],
        expression,
    );
}

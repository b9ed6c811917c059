//! Characters that reorder or hide text are shown as their code points, wherever a person reads them.

use serde_json::Value;

use crate::support::folder::Folder;

/// A line that looks like another one: an override, an isolate, a zero-width space, a word joiner, a tag, a C1 control.
const TEXT: &str = "allow\u{202e}\u{2066}resu\u{2069} # \u{200b}a\u{2060}b\u{e0041}\u{9b}2J";
const HIDDEN: [char; 7] = ['\u{202e}', '\u{2066}', '\u{2069}', '\u{200b}', '\u{2060}', '\u{e0041}', '\u{9b}'];

fn manifest(text: &str) -> String {
    let node = "[nodes.here]\ntransport = \"local\"\n";
    let file = "[resource.ssh_file.a]\non = \"here\"\npath = \"${path.root}/a\"\n";
    format!(
        "{node}{file}content = \"one\\n{text}\\n\"\n[resource.ssh_file.\"b\"]\non = \"here\"\nfor_each = [\"k\u{200d}y\"]\npath = \"${{path.root}}/b\"\ncontent = \"{text}\"\n\
         [outputs.o]\nvalue = \"{text}\"\n"
    )
}

#[test]
fn no_output_reorders_or_hides_text() {
    let folder = Folder::new(&manifest("first"));
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("main.toml", &manifest(TEXT));
    folder.write("broken/main.toml", &format!("{}x{} = \"{TEXT}\"\n", manifest(TEXT), '\u{202e}'));
    folder.write("unknown/main.toml", &manifest(TEXT).replace("on = \"here\"", &format!("on = \"he{TEXT}re\"")));
    let commands: [(i32, &[&str]); 17] = [
        (0, &["plan", "-out", "p"]),
        (0, &["plan", "-full"]),
        (0, &["show", "p"]),
        (0, &["show", "p", "-markdown"]),
        (0, &["show", "p", "-html"]),
        (0, &["show", "p", "-json"]),
        (0, &["plan", "-json"]),
        (0, &["apply", "-json", "-auto-approve"]),
        (0, &["show"]),
        (0, &["show", "-json"]),
        (0, &["output"]),
        (0, &["output", "-json"]),
        (0, &["state", "pull"]),
        (0, &["state", "list"]),
        (0, &["graph"]),
        (1, &["-C", "broken", "plan"]),
        (1, &["-C", "unknown", "plan", "-json"]),
    ];
    for (code, arguments) in commands {
        let run = folder.expect(code, arguments);
        let seen = |text: &str| text.chars().find(|c| HIDDEN.contains(c) || *c == '\u{200d}');
        assert_eq!(
            (seen(&run.stdout), seen(&run.stderr)),
            (None, None),
            "{arguments:?}\n{}\n{}",
            run.stdout,
            run.stderr
        );
        let escape = if arguments.contains(&"-json") || arguments.contains(&"pull") { "\\u202e" } else { "\\u{202e}" };
        let names_only = ["list", "graph"].iter().any(|name| arguments.contains(name));
        assert!(
            names_only || format!("{}{}", run.stdout, run.stderr).contains(escape),
            "{arguments:?}\n{}",
            run.stdout
        );
    }
    // The values themselves are not changed.
    let outputs: Value = serde_json::from_str(&folder.expect(0, &["output", "-json"]).stdout).unwrap();
    assert_eq!(outputs["o"]["value"], TEXT);
    assert_eq!(folder.expect(0, &["output", "-raw", "o"]).stdout, TEXT);
    assert_eq!(folder.read("b"), TEXT);
}

#[test]
fn an_error_points_at_the_escaped_line() {
    let folder = Folder::new("[nodes.here]\ntransport = \"local\"\n[locals]\na = \"\u{202e}${nope.x}\"\n");
    let run = folder.expect(1, &["validate"]);
    let lines: Vec<_> = run.stderr.lines().collect();
    let at =
        lines.iter().position(|line| line.contains("\\u{202e}${nope.x}")).unwrap_or_else(|| panic!("{}", run.stderr));
    let column = lines[at].find("nope").unwrap();
    assert_eq!(lines[at + 1].find('^'), Some(column), "{}", run.stderr);
}

#[test]
fn an_invalid_argument_is_escaped() {
    let folder = Folder::empty();
    let run = folder.expect(1, &["pl\u{202e}an"]);
    assert!(run.stderr.contains("pl\\u{202e}an") && !run.stderr.contains('\u{202e}'), "{}", run.stderr);
}

//! An entry point for the fuzz target that reads the answers of nodes.

use crate::answer::{Stderr, Stdout, Stream};
use crate::script::Script;

/// Parses `bytes` as the answer of a node to a script of two sections: its stdout, a zero byte, its stderr.
/// A line that starts with `@` is one of the script's own.
pub fn answer(bytes: &[u8]) {
    let mut script = Script::new();
    script.section("true");
    script.section("true");
    let text = String::from_utf8_lossy(bytes).replace('@', script.nonce());
    let (stdout_text, stderr_text) = text.split_once('\0').unwrap_or((&text, ""));
    let (mut stdout, mut stderr) = (Stdout::of(&script), Stderr::of(&script));
    let (Ok(_), Ok(_)) = (stdout.take(stdout_text.as_bytes()), stderr.take(stderr_text.as_bytes())) else { return };
    let lines = stderr.kept();
    script.before(&lines);
    let sections = script.parse(stdout.kept(), &lines);
    assert_eq!(sections.len(), script.sections());
    for section in sections {
        section.failure();
        for name in ["kind", "content", "note", "summary"] {
            section.text(name);
            section.texts(name);
        }
    }
}

//! What reads what a node says, for the fuzz target.

use crate::script::Script;

/// Takes bytes for the answer of a node to a script of two sections: what is said on stdout, a zero byte, what is said on stderr.
/// A line that begins with `@` is one of the script's own.
pub fn answer(bytes: &[u8]) {
    let mut script = Script::new();
    script.section("true");
    script.section("true");
    let nonce = script.done_line();
    let nonce = nonce.trim().trim_end_matches(" done");
    let text = String::from_utf8_lossy(bytes).replace('@', nonce);
    let (stdout, stderr) = text.split_once('\0').unwrap_or((&text, ""));
    script.before(stderr.as_bytes());
    let sections = script.parse(stdout.as_bytes(), stderr.as_bytes());
    assert_eq!(sections.len(), script.sections());
    for section in sections {
        section.failure();
        for name in ["kind", "content", "note", "summary"] {
            section.text(name);
            section.texts(name);
        }
    }
}

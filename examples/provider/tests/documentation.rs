//! Every snippet of `docs/writing-a-provider.md` is a part of this example.

use std::fs;
use std::path::Path;

const FILES: [&str; 6] =
    ["Cargo.toml", "manifest/main.toml", "src/connection.rs", "src/lib.rs", "src/main.rs", "tests/conformance.rs"];

/// Returns the lines without their indentation, which a snippet does not keep.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_snippets_of_the_guide_are_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<String> = FILES.iter().map(|file| fs::read_to_string(root.join(file)).unwrap()).collect();
    let guide = fs::read_to_string(root.join("../../docs/writing-a-provider.md")).unwrap();
    let snippets: Vec<&str> = ["```rust\n", "```toml\n"]
        .iter()
        .flat_map(|fence| guide.split(fence).skip(1))
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(snippets.len() > 8, "the snippets were found: {}", snippets.len());
    for snippet in snippets {
        let wanted = lines(snippet);
        let is_part = |file: &String| lines(file).windows(wanted.len()).any(|part| part == wanted);
        assert!(files.iter().any(is_part), "this snippet is in no file of the example:\n{snippet}");
    }
}

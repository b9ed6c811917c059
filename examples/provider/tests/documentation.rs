//! Every snippet of `docs/writing-a-provider.md` is a part of this example, and every method that it names exists.

use std::fs;
use std::path::Path;

const FILES: [&str; 5] = ["Cargo.toml", "manifest/main.toml", "src/lib.rs", "src/main.rs", "tests/conformance.rs"];

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

#[test]
fn the_guide_names_methods_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = fs::read_to_string(root.join("docs/writing-a-provider.md")).unwrap();
    for (name, file) in
        [("Provider", "definition.rs"), ("ResourceType", "resource_type.rs"), ("Connection", "connection.rs")]
    {
        let code = fs::read_to_string(root.join("engine/src/provider").join(file)).unwrap();
        let code = code.split(&format!("pub trait {name}:")).nth(1).unwrap().split("\n}\n").next().unwrap();
        let named: Vec<&str> =
            guide.split(&format!("`{name}::")).skip(1).map(|rest| rest.split('`').next().unwrap()).collect();
        assert!(named.len() > 4, "the methods of {name} were found: {named:?}");
        for method in named {
            let is_declared = ["(", "<"].iter().any(|next| code.contains(&format!("fn {method}{next}")));
            assert!(is_declared, "{name} has no method `{method}`");
        }
        let methods = code.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap());
        let missing: Vec<&str> = methods.filter(|method| !guide.contains(method)).collect();
        assert!(missing.is_empty(), "the guide does not name these methods of {name}: {missing:?}");
    }
}

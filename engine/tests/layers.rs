//! The layers of the engine: each folder of `src` imports only from the folders before it in [`LAYERS`].

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The layers as `lib.rs` lists them. A layer imports from those before it.
const LAYERS: [&str; 12] = [
    "model",
    "expression",
    "manifest",
    "provider",
    "reference",
    "configuration",
    "session",
    "check",
    "plan",
    "policy",
    "apply",
    "workspace",
];

#[test]
fn a_layer_imports_only_from_lower_layers() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upward = Vec::new();
    for file in rust_files(&sources).unwrap() {
        let relative = file.strip_prefix(&sources).unwrap().to_str().unwrap();
        let name = relative.split('/').next().unwrap().trim_end_matches(".rs");
        let is_test = relative.contains("/tests/") || relative.ends_with("/tests.rs");
        if name == "lib" || is_test {
            continue;
        }
        let layer = place(name).unwrap_or_else(|| panic!("{relative} belongs to no layer: add its folder to LAYERS"));
        let code = code_of(&file).unwrap();
        let imports =
            code.lines().enumerate().flat_map(|(line, text)| layers_in(text).map(move |name| (line + 1, name)));
        let higher = imports.filter(|(_, imported)| place(imported).is_some_and(|imported| imported > layer));
        upward.extend(higher.map(|(line, imported)| format!("{relative}:{line}: {name} imports {imported}")));
    }
    assert!(upward.is_empty(), "imports from a higher layer:\n{}", upward.join("\n"));
}

fn place(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|name| *name == layer)
}

/// Returns the layers that a line of code names: `use crate::plan::Plan`, `crate::plan::Plan::new()`.
fn layers_in(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(first_name)
}

fn first_name(path: &str) -> &str {
    path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Returns the code of a file without its tests and comments, which may name any layer.
fn code_of(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    Ok(code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn deciding_needs_no_io() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan");
    let waits = |file: &PathBuf| code_of(file).unwrap().contains(".await");
    let waiting = rust_files(&folder).unwrap().into_iter().filter(waits);
    let mut names: Vec<_> = waiting.map(|file| file.file_name().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["calls.rs", "planner.rs"]);
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

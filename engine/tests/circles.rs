//! The modules of a layer import each other without circles, so that each of them can be read with those below it alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

#[test]
fn the_modules_of_a_layer_import_each_other_without_circles() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = fs::read_dir(&sources).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let imports: usize = layers.map(|layer| check(&layer)).sum();
    assert!(imports > 100, "{imports} imports were found");
}

/// Checks a layer. Returns the number of imports between its modules.
fn check(folder: &Path) -> usize {
    let layer = folder.file_name().unwrap().to_str().unwrap();
    let mut texts = BTreeMap::new();
    read(folder, layer, &mut texts);
    let modules: BTreeSet<&str> = texts.keys().map(String::as_str).collect();
    let mut imports: DiGraphMap<&str, ()> = DiGraphMap::new();
    for (module, text) in &texts {
        for path in paths(module, text) {
            let imported = longest_module(&modules, &path);
            if let Some(imported) = imported.filter(|imported| imported != module) {
                imports.add_edge(module, imported, ());
            }
        }
    }
    let circles: Vec<_> = tarjan_scc(&imports).into_iter().filter(|circle| circle.len() > 1).collect();
    assert!(circles.is_empty(), "modules of {layer} that import each other: {circles:#?}");
    imports.edge_count()
}

/// Reads the modules of a folder, without their tests.
fn read(folder: &Path, module: &str, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            read(&path, &format!("{module}::{name}"), texts);
        } else if name != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            texts.insert(if name == "mod" { module.to_owned() } else { format!("{module}::{name}") }, code);
        }
    }
}

/// Returns the paths in the code of a module that begin with `crate`, `self` or `super`, from the root of the crate.
fn paths(module: &str, text: &str) -> Vec<String> {
    let code = |line: &str| line.split("//").next().unwrap().replace("pub(in crate::apply)", "pub");
    let code = text.lines().map(code).collect::<Vec<_>>().join(" ");
    let mut paths = Vec::new();
    for (start, _) in code.match_indices("::") {
        let first = code[..start].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        let rest = &code[start + 2..];
        match first {
            "crate" => expand("", rest, &mut paths),
            "self" => expand(module, rest, &mut paths),
            // A path with two of them is found at the first one.
            "super" if !code[..start].ends_with("super::super") => expand(parent(module), rest, &mut paths),
            _ => {}
        }
    }
    paths
}

/// Adds the paths that `rest` continues: `plan::Plan`, `{model::Address, plan::{Change, Plan}}`.
fn expand(prefix: &str, rest: &str, paths: &mut Vec<String>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let mut depth = 1;
        let mut start = 0;
        for (place, c) in group.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if (depth == 1 && c == ',') || depth == 0 {
                expand(prefix, &group[start..place], paths);
                start = place + 1;
            }
            if depth == 0 {
                return;
            }
        }
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let path = match name.as_str() {
        "" => return,
        "super" => parent(prefix).to_owned(),
        name if prefix.is_empty() => name.to_owned(),
        name => format!("{prefix}::{name}"),
    };
    match rest[name.len()..].strip_prefix("::") {
        Some(more) => expand(&path, more, paths),
        None => paths.push(path),
    }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// Returns the module that an imported item is in.
fn longest_module<'m>(modules: &BTreeSet<&'m str>, path: &str) -> Option<&'m str> {
    let mut path = path;
    while !path.is_empty() {
        if let Some(module) = modules.get(path) {
            return Some(module);
        }
        path = parent(path);
    }
    None
}

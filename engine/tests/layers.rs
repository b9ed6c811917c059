//! The structure of the engine: each folder of `src` is a layer that imports only from those before it, the modules of a layer import each other without circles,
//! and deciding needs no I/O. The modules of the state, of the providers and of the binary import each other without circles too.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

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

/// The folder of the crate of the binary, from the root of the repository.
const BINARY: &str = ".";

/// The code of each module by its path, without comments and tests, which may name any layer.
type Modules = BTreeMap<String, String>;

#[test]
fn a_layer_imports_only_from_lower_layers() {
    let mut upward = Vec::new();
    for (module, code) in modules() {
        let layer = place(&module).unwrap_or_else(|| panic!("{module} belongs to no layer: add its folder to LAYERS"));
        let imported = paths(&module, &code).into_iter();
        let higher = imported.filter(|path| place(path).is_some_and(|imported| imported > layer));
        upward.extend(higher.map(|path| format!("{module} imports {path}")));
    }
    assert!(upward.is_empty(), "imports from a higher layer:\n{}", upward.join("\n"));
}

/// Returns the place of the layer of a path.
fn place(path: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| path.split("::").next() == Some(layer))
}

#[test]
fn the_modules_of_a_layer_import_each_other_without_circles() {
    let modules = modules();
    let mut imports: DiGraphMap<&str, ()> = DiGraphMap::new();
    for (module, code) in &modules {
        for path in paths(module, code) {
            let imported = module_of(&modules, &path).filter(|imported| imported != module);
            if let Some(imported) = imported.filter(|imported| place(imported) == place(module)) {
                imports.add_edge(module, imported, ());
            }
        }
    }
    assert!(imports.edge_count() > 100, "too few imports were found: {imports:?}");
    let circles = circles(&imports);
    assert!(circles.is_empty(), "modules that import each other: {circles:#?}");
}

#[test]
fn a_provider_depends_on_no_other_provider() {
    let folders = fs::read_dir("../providers").unwrap().map(|folder| folder.unwrap().path());
    let manifests: Vec<_> = folders.map(|folder| folder.join("Cargo.toml")).filter(|file| file.exists()).collect();
    assert!(manifests.len() >= 5, "{manifests:?}");
    for file in manifests {
        let manifest: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        let own = manifest["dependencies"].as_table().unwrap().keys().filter(|name| name.starts_with("moorfast-"));
        let allowed = ["moorfast-engine", "moorfast-programs", "moorfast-kubeconfig"];
        let others: Vec<_> = own.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(others.is_empty(), "{} depends on {others:?}", file.display());
    }
}

#[test]
fn the_modules_of_the_other_crates_import_each_other_without_circles() {
    for folder in [
        "state",
        "state/kubeconfig",
        "state/programs",
        "providers/conformance",
        "providers/kubernetes",
        "providers/local",
        "providers/ssh",
        BINARY,
    ] {
        let modules = modules_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src"));
        let mut imports: DiGraphMap<&str, ()> = DiGraphMap::new();
        for (module, code) in &modules {
            let imported = |path: &String| module_of(&modules, path).filter(|imported| imported != module);
            paths(module, code)
                .iter()
                .filter_map(imported)
                .for_each(|imported| _ = imports.add_edge(module, imported, ()));
        }
        assert!(imports.edge_count() > 0, "no imports were found in {folder}/src");
        let circles = circles(&imports);
        assert!(circles.is_empty(), "modules of {folder}/src that import each other: {circles:#?}");
    }
}

/// Returns the modules that import each other, also through others.
fn circles<'m>(imports: &DiGraphMap<&'m str, ()>) -> Vec<Vec<&'m str>> {
    tarjan_scc(imports).into_iter().filter(|circle| circle.len() > 1).collect()
}

#[test]
fn deciding_needs_no_io() {
    let modules = modules();
    let waiting = modules.iter().filter(|(module, code)| place(module) == place("plan") && code.contains(".await"));
    let waiting: Vec<_> = waiting.map(|(module, _)| module.as_str()).collect();
    assert_eq!(waiting, ["plan::calls", "plan::planner"]);
}

/// Reads all modules of the engine.
fn modules() -> Modules {
    modules_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// Reads all modules of a crate.
fn modules_in(folder: &Path) -> Modules {
    let mut modules = Modules::new();
    read(folder, "", &mut modules);
    modules
}

/// Reads the modules of the folder of `parent`.
fn read(folder: &Path, parent: &str, modules: &mut Modules) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = if parent.is_empty() { name.to_owned() } else { format!("{parent}::{name}") };
        match name {
            "tests" | "lib" => {}
            _ if path.is_dir() => read(&path, &module, modules),
            "mod" => _ = modules.insert(parent.to_owned(), code_of(&path)),
            _ if path.extension().is_some_and(|extension| extension == "rs") => {
                modules.insert(module, code_of(&path));
            }
            _ => {}
        }
    }
}

fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let line = |line: &str| line.split("//").next().unwrap().replace("pub(in crate::apply)", "pub");
    code.lines().map(line).collect::<Vec<_>>().join(" ")
}

/// Returns the paths in the code of a module that begin with `crate`, `self` or `super`, from the root of the crate.
fn paths(module: &str, code: &str) -> Vec<String> {
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
fn module_of<'m>(modules: &'m Modules, path: &str) -> Option<&'m str> {
    let mut path = path;
    while !path.is_empty() {
        if let Some((module, _)) = modules.get_key_value(path) {
            return Some(module);
        }
        path = parent(path);
    }
    None
}

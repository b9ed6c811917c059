//! Reference pages, examples, schema, version and help.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::folder::Folder;

#[test]
fn the_reference_pages_are_up_to_date() {
    let folder = Folder::empty();
    folder.expect(0, &["docs", "."]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for path in folder.files() {
        let name = path.strip_prefix(folder.path("")).unwrap();
        let kept = fs::read_to_string(root.join(name)).unwrap_or_default();
        let hint = "run `cargo run -- docs docs`";
        assert_eq!(kept, fs::read_to_string(&path).unwrap(), "docs/{} is out of date: {hint}", name.display());
    }
    for kept in ["resources", "data", "errors"].iter().flat_map(|name| fs::read_dir(root.join(name)).unwrap()) {
        let name = kept.unwrap().path().strip_prefix(&root).unwrap().to_owned();
        assert!(
            folder.path("").join(&name).exists(),
            "docs/{} describes something that does not exist",
            name.display()
        );
    }
}

/// Editors and their plugins read TOML 1.0, in which an inline table stays on one line.
#[test]
fn examples_and_snippets_are_toml_1_0() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = example_files();
    // The page of the error "not valid TOML" shows an invalid manifest.
    let pages = walk(&root.join("docs")).into_iter().filter(|path| !path.ends_with("docs/errors/M0101.md"));
    let pages = walk(&root.join("examples")).into_iter().chain(pages).chain([root.join("README.md")]);
    for path in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
        texts.extend(blocks.map(|block| (path.display().to_string(), block)));
    }
    assert!(texts.len() >= 20, "examples and snippets were found: {}", texts.len());
    for (name, text) in texts {
        if let Err(error) = text.parse::<toml_1_0::Table>() {
            panic!("{name} is not TOML 1.0: {error}");
        }
    }
}

#[test]
fn a_formatted_file_is_toml_1_0() {
    let folder = Folder::empty();
    let texts = example_files();
    let names: Vec<_> = (0..texts.len()).map(|i| format!("{i}.toml")).collect();
    for (name, (_, text)) in names.iter().zip(&texts) {
        folder.write(name, &text.replace(" = ", "="));
    }
    let arguments: Vec<_> = ["fmt"].into_iter().chain(names.iter().map(String::as_str)).collect();
    folder.expect(0, &arguments);
    for (name, (source, text)) in names.iter().zip(&texts) {
        let formatted = folder.read(name);
        assert!(formatted.parse::<toml_1_0::Table>().is_ok(), "{source}: {formatted}");
        assert!(!text.contains(" = ") || formatted.contains(" = "), "it was formatted: {source}");
    }
}

/// Editors mark what does not fit the schema.
#[test]
fn the_manifests_of_the_examples_fit_the_schema() {
    let schema = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/moorfast.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    let errors = |text: &str| -> Vec<String> {
        let manifest = serde_json::to_value(text.parse::<toml_1_0::Table>().unwrap()).unwrap();
        schema.iter_errors(&manifest).map(|error| format!("{}: {error}", error.instance_path())).collect()
    };
    // The types of `examples/provider` are in the schema that its own binary writes.
    let others = [".vars.toml", "Cargo.toml", "examples/provider/manifest/main.toml"];
    let is_manifest = |(name, _): &(String, String)| others.iter().all(|other| !name.ends_with(other));
    let manifests: Vec<_> = example_files().into_iter().filter(is_manifest).collect();
    assert!(manifests.len() >= 40, "manifests were found: {}", manifests.len());
    for (name, text) in manifests {
        assert_eq!(errors(&text), Vec::<String>::new(), "{name}");
    }
    let missing_on = "[resource.ssh_file.motd]\npath = \"/etc/motd\"\ncontent = \"x\"\n";
    assert_eq!(errors(missing_on), ["/resource/ssh_file/motd: \"on\" is a required property"]);
    let unknown = errors("[nodes.a]\nadress = \"10.0.0.1\"\n");
    assert_eq!(unknown, ["/nodes/a: Additional properties are not allowed ('adress' was unexpected)"]);
}

/// Returns the TOML files of the examples, and the manifest that `init` writes, with their names.
fn example_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = walk(&root.join("examples")).into_iter().chain([root.join("src/commands/init/main.toml")]);
    let toml = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    toml.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

/// The documentation names files as paths from the root, between backticks, and links to other pages by relative paths.
#[test]
fn files_that_the_documentation_names_exist() {
    const FOLDERS: [&str; 8] = ["docs", "engine", "examples", "fuzz", "providers", "src", "state", "tests"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = walk(&root.join("docs")).into_iter().chain([root.join("README.md"), root.join("CONTRIBUTING.md")]);
    let mut missing = Vec::new();
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        let is_path = |word: &&str| {
            let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            is_plain && word.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder))
        };
        let named = text.split('`').skip(1).step_by(2).filter(is_path).map(|path| root.join(path));
        let lost = named.filter(|path| !path.exists());
        missing.extend(lost.map(|path| format!("{}: {}", page.display(), path.display())));

        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let has_anchor = || anchors(&fs::read_to_string(&target).unwrap_or_default()).iter().any(|a| a == anchor);
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                missing.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "files or headings that do not exist are named:\n{}", missing.join("\n"));
}

/// Returns the anchors of the headings of a page.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " _-".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// `packaging/book` adds the generated pages and the decisions itself.
#[test]
fn every_page_is_in_the_book() {
    const ADDED: [&str; 6] = ["data", "decisions", "errors", "providers", "resources", "SUMMARY.md"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = root.join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let pages = walk(&docs).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for page in pages {
        let page = page.strip_prefix(&docs).unwrap();
        let is_added = ADDED.iter().any(|added| page.starts_with(added));
        assert!(
            is_added || summary.contains(&format!("({})", page.display())),
            "{} is not in SUMMARY.md",
            page.display()
        );
    }
    let examples = fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path().join("README.md"));
    for page in examples.filter(|page| page.exists()) {
        let link = format!("(../{})", page.strip_prefix(root).unwrap().display());
        assert!(summary.contains(&link), "{link} is not in SUMMARY.md");
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn the_schema_is_json_and_contains_the_types() {
    let run = Folder::empty().expect(0, &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(schema.to_string().contains("ssh_file") && schema.to_string().contains("kubernetes_object"));
    let rendered = &schema["properties"]["data"]["properties"]["kubernetes_rendered"]["additionalProperties"];
    assert!(rendered["properties"]["chart"].is_object() && rendered["properties"]["documents"].is_null(), "{rendered}");
}

#[test]
fn version_and_help() {
    let folder = Folder::empty();
    let json: serde_json::Value = serde_json::from_str(&folder.expect(0, &["version", "-json"]).stdout).unwrap();
    assert_eq!(json["moorfast_version"], env!("CARGO_PKG_VERSION"));
    assert!(json["commit"].is_string() || cfg!(debug_assertions), "a release build has its commit: {json}");
    folder.expect(0, &["-version"]).says(env!("CARGO_PKG_VERSION"));
    folder.expect(0, &["-help"]).says("Usage: moorfast");
    folder.expect(0, &["plan", "-h"]).says("--detailed-exitcode");
    folder.expect(1, &[]).complains("Usage: moorfast");
    folder.expect(1, &["paln"]).complains("plan");
    folder.expect(1, &["plan", "--detailed-exit-code"]).complains("--detailed-exitcode");
}

#[test]
fn every_command_has_a_man_page() {
    let folder = Folder::empty();
    folder.write("man/.keep", "");
    folder.expect(0, &["docs", "man", "--man"]);
    let page = folder.read("man/moorfast-node-check.1");
    assert!(page.contains("parallelism"), "{page}");
    assert!(folder.read("man/moorfast.1").contains("moorfast\\-plan(1)"));
}

#[test]
fn the_manifest_of_the_manifest_page_is_valid() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.md")).unwrap();
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let folder = Folder::new(&blocks.collect::<Vec<_>>().join("\n"));
    folder.write("ca.pem", "a certificate");
    // What the rollout of the page names, and the page does not show.
    folder.write(
        "cluster.toml",
        "[resource.kubernetes_node.worker]\non = { role = \"worker\" }\nname = \"${node.name}\"\n\n[nodes.cp1]\nroles = [\"control-plane\"]\n\n\
         [resource.ssh_file.cp]\non = \"cp1\"\npath = \"/etc/cp\"\ncontent = \"x\"\n\n[rollout.control_plane]\nnodes = [\"cp1\"]\n",
    );
    folder.write("prod.vars.toml", "");
    folder.write("workers.yaml", "gpu02: { ip: 10.0.0.12, rack: a1 }\n");
    for (name, module) in [
        ("web", "[variables.port]\n[variables.host]\n"),
        ("site", "[variables.name]\n[outputs.url]\nvalue = \"https://${var.name}\"\n"),
    ] {
        fs::create_dir_all(folder.path(&format!("modules/{name}"))).unwrap();
        folder.write(&format!("modules/{name}/main.toml"), module);
    }
    folder.expect(0, &["validate"]);
}

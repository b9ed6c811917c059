//! Loading a manifest from a file or a folder. All errors are reported at once.

use std::path::{Path, PathBuf};

use moorfast_state::{Digest, bounded};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::loader::Loader;
use super::reader::{Entry, Reader};
use super::{Manifest, blocks, environment, policy, references, resource, rollout, variable};
use crate::expression::Files;
use crate::manifest::terraform;
use crate::model::{Diagnostic, SourceFile, Sources, Span, suggest};

const TABLES: [&str; 15] = [
    "variables",
    "locals",
    "nodes",
    "providers",
    "backend",
    "environments",
    "resource",
    "data",
    "check",
    "policy",
    "rollout",
    "outputs",
    "moved",
    "import",
    "removed",
];

impl Manifest {
    /// Reads the manifest at `path`: a file, or all `*.toml` files of a folder except `*.vars.toml` and hidden files.
    ///
    /// # Errors
    /// Returns all errors, with the sources that they refer to.
    pub fn load(path: &Path) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        Self::load_from(path, None)
    }

    /// Reads a manifest that is not trusted. Its expressions and symbolic links cannot read files outside its folder or in `data_dir`.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load_untrusted(path: &Path, data_dir: &Path) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        Self::load_from(path, Some(data_dir.to_owned()))
    }

    /// Returns the access to files for the expressions of this manifest.
    pub fn files(&self) -> Files {
        Files { root: self.root.clone(), untrusted: self.untrusted.clone(), ..Files::default() }
    }

    fn load_from(path: &Path, untrusted: Option<PathBuf>) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        let paths = manifest_files(path).map_err(|diagnostic| (Sources::default(), vec![*diagnostic]))?;
        let mut files = Vec::new();
        let mut unreadable = Vec::new();
        let root = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root.to_owned() };
        let allowed = Files { root: root.clone(), untrusted: untrusted.clone(), ..Files::default() };
        for path in paths {
            if let Err(message) = allowed.check(&path) {
                unreadable.push(Diagnostic::error(message));
                continue;
            }
            match bounded::read_text(&path, bounded::TEXT) {
                Ok(text) => files.push(SourceFile { path, text }),
                Err(error) => unreadable.push(Diagnostic::error(format!("cannot read {}: {error}", path.display()))),
            }
        }
        let manifest = Self::from_sources(root, Sources { files }, unreadable)?;
        Ok(Manifest { untrusted, ..manifest })
    }

    /// Parses a manifest of these sources in the folder `root`.
    ///
    /// # Errors
    /// Returns `problems` and all errors in the sources.
    pub fn from_sources(
        root: PathBuf,
        sources: Sources,
        mut problems: Vec<Diagnostic>,
    ) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        let mut manifest = Manifest { root, digest: Some(digest(&sources)), ..Manifest::default() };
        let mut loader = Loader::new(&mut manifest);
        let mut is_complete = problems.is_empty();
        for (file, source) in sources.files.iter().enumerate() {
            match DeTable::parse_recoverable(&source.text) {
                (document, errors) if errors.is_empty() => {
                    problems.extend(loader.file(Reader::new(file, &source.text), document.get_ref()));
                }
                (_, errors) => {
                    is_complete = false;
                    problems.extend(syntax_errors(file, &source.text, &errors));
                }
            }
        }
        // The definitions of an unreadable file would be reported as missing.
        if is_complete {
            problems.extend(references::check(&manifest));
        }
        if problems.is_empty() {
            manifest.sources = sources;
            return Ok(manifest);
        }
        problems.sort_by_key(|problem| problem.at.as_ref().map(|(span, _)| *span));
        Err((sources, problems))
    }
}

fn manifest_files(path: &Path) -> Result<Vec<PathBuf>, Box<Diagnostic>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let listing = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = listing.map_err(|error| {
        Box::new(match error.kind() {
            std::io::ErrorKind::NotFound => Diagnostic::error(format!("{} does not exist", path.display())),
            _ => Diagnostic::error(format!("cannot list {}: {error}", path.display())),
        })
    })?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| is_manifest_file(name));
    names.sort();
    if names.is_empty() {
        let help = "a manifest is one or more *.toml files; `moorfast init` creates one";
        let missing = Diagnostic::error(format!("no manifest in {}", path.display()));
        return Err(Box::new(missing.help(help)));
    }
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Whether a file with this name is a part of the manifest of its folder: a visible `*.toml` that is neither a file of variables nor a file of Rust's tools.
pub fn is_manifest_file(name: &str) -> bool {
    name.ends_with(".toml") && !name.ends_with(".vars.toml") && !name.starts_with('.') && !is_rust_configuration(name)
}

/// Whether a TOML file with this name belongs to Rust's tools.
pub fn is_rust_configuration(name: &str) -> bool {
    ["Cargo.toml", "rust-toolchain.toml", "rustfmt.toml", "clippy.toml", "deny.toml"].contains(&name)
}

/// Returns the digest of all sources with their file names.
fn digest(sources: &Sources) -> Digest {
    let mut bytes = Vec::new();
    for file in &sources.files {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        bytes.extend_from_slice(format!("{name}\0{}\0{}", file.text.len(), file.text).as_bytes());
    }
    Digest::of(&bytes)
}

impl Loader<'_> {
    /// Reads the tables of one file. Returns all errors in them.
    fn file<'a>(&mut self, mut reader: Reader<'a>, tables: &'a DeTable<'a>) -> Vec<Diagnostic> {
        for entry in reader.entries(tables) {
            self.table(&mut reader, entry);
        }
        reader.diagnostics
    }

    fn table<'a>(&mut self, reader: &mut Reader<'a>, entry: Entry<'a>) {
        match entry.name.as_str() {
            "variables" => self.each(reader, &entry, "variable", variable::read),
            "locals" => self.locals(reader, &entry),
            "nodes" => self.each(reader, &entry, "node", blocks::node),
            "providers" => blocks::providers(self, reader, &entry),
            "backend" => blocks::backend(self, reader, &entry),
            "environments" => self.each(reader, &entry, "environment", environment::read),
            "resource" | "data" => resource::read_all(self, reader, &entry),
            "check" => self.each(reader, &entry, "check", blocks::check),
            "policy" => self.each(reader, &entry, "policy", policy::read),
            "rollout" => self.each(reader, &entry, "rollout", rollout::read),
            "outputs" => self.each(reader, &entry, "output", blocks::output),
            "moved" => blocks::for_each_table(reader, &entry, |reader, value| blocks::moved(self, reader, value)),
            "import" => blocks::for_each_table(reader, &entry, |reader, value| blocks::import(self, reader, value)),
            "removed" => blocks::for_each_table(reader, &entry, |reader, value| blocks::removed(self, reader, value)),
            "module" => {
                let help =
                    "split a manifest into several *.toml files in one folder, and repeat a resource with `for_each`"
                        .to_owned();
                reader.error_with(entry.span, "modules are not supported", Some(help));
            }
            name => {
                let help = terraform::table(name)
                    .or_else(|| suggest(name, TABLES))
                    .unwrap_or_else(|| format!("the tables of a manifest are {}", TABLES.join(", ")));
                reader.error_with(entry.span, format!("unknown table `{name}`"), Some(help));
            }
        }
    }

    /// Reads each named table inside `entry`.
    fn each<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        entry: &Entry<'a>,
        kind: &str,
        read: fn(&mut Self, &mut Reader<'a>, &str, &'a Spanned<DeValue<'a>>),
    ) {
        for inner in reader.table(entry.value, &format!("`{}`", entry.name)).unwrap_or_default() {
            if self.define(reader, kind, &inner.name, inner.span) {
                read(self, reader, &inner.name, inner.value);
            }
        }
    }

    fn locals<'a>(&mut self, reader: &mut Reader<'a>, entry: &Entry<'a>) {
        for local in reader.table(entry.value, "`locals`").unwrap_or_default() {
            if self.define(reader, "local", &local.name, local.span) {
                let expr = reader.expr(local.value);
                self.manifest.locals.insert(local.name, expr);
            }
        }
    }
}

/// Returns the errors of the TOML parser, only the first of each line, because the others usually follow from it.
pub(crate) fn syntax_errors(file: usize, text: &str, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut lines = Vec::new();
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(range, _)| range.start);
    for (range, message) in errors {
        let line = text.get(..range.start).unwrap_or_default().matches('\n').count();
        if lines.contains(&line) {
            continue;
        }
        lines.push(line);
        let span = Span { file, start: range.start, end: range.end };
        let (label, help) = explain(message);
        let diagnostic = Diagnostic::error("this is not valid TOML").at(span, label);
        diagnostics.push(Diagnostic { help, ..diagnostic });
    }
    diagnostics
}

/// Returns the label and the remedy for a message of the TOML parser.
pub(super) fn explain(message: &str) -> (String, Option<String>) {
    let (label, help) = match message {
        message if message.starts_with("string values must be quoted") => {
            ("a value is expected here", Some("write a string in quotes: \"text\""))
        }
        message if message.starts_with("duplicate key") => ("this key is defined twice in the same table", None),
        message if message.starts_with("key with no value") => ("a key needs a value: `key = value`", None),
        message if message.starts_with("invalid basic string") => (
            "this string is not closed, or has a character that must be escaped",
            Some("write a string that contains quotes in single quotes: '${file(\"motd\")}'"),
        ),
        message if message.starts_with("invalid literal string") => ("this string is not closed with '", None),
        message if message.starts_with("unexpected leading zero") => {
            ("a number cannot start with 0", Some("write a file mode as a string: \"0644\""))
        }
        message if message.starts_with("unexpected key or value, expected newline") => (
            "the value before this is complete: a new line is expected",
            Some("write a string that contains quotes in single quotes: '${file(\"motd\")}'"),
        ),
        message => return (message.to_owned(), None),
    };
    (label.to_owned(), help.map(str::to_owned))
}

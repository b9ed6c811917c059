//! The files of a manifest and of the modules that it calls.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use moorfast_state::{Digest, bounded};
use toml::de::DeTable;

use super::files::manifest_files;
use super::loader::Loader;
use super::module_lock::LockFile;
use super::module_source::{GIT, GitSource, Source};
use super::reader::Reader;
use super::syntax::syntax_errors;
use super::{Manifest, ModuleCall, references, value_cycles};
use crate::model::{Diagnostic, SourceFile, Sources, error_codes};

/// The loader of a manifest with its modules.
pub(super) struct Tree {
    /// The files that were read.
    pub sources: Sources,
    /// The errors in them.
    pub problems: Vec<Diagnostic>,
    /// The name of each file in the digest.
    labels: Vec<String>,
    /// The modules by their folder, so that each is read once. `None` if a file of it is not valid TOML.
    loaded: BTreeMap<PathBuf, Option<Arc<Manifest>>>,
    /// The folder of the root.
    root: PathBuf,
    /// The lock file, read when the first git source needs it.
    lock: Option<Result<LockFile, String>>,
    /// The folders of the repositories that are needed.
    repositories: BTreeMap<GitSource, Result<PathBuf, Problem>>,
}

/// Why a module cannot be used, and what to do.
type Problem = (String, Option<&'static str>);

/// The manifest or module that calls a module, and its own callers.
#[derive(Clone, Copy)]
struct Caller<'c> {
    manifest: &'c Manifest,
    /// The real path of the folder.
    folder: &'c Path,
    outer: Option<&'c Caller<'c>>,
}

impl Tree {
    /// Creates a loader of the root with these files.
    pub fn new(sources: Sources, problems: Vec<Diagnostic>) -> Self {
        let name = |file: &SourceFile| file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let labels = sources.files.iter().map(name).collect();
        Self {
            sources,
            problems,
            labels,
            loaded: BTreeMap::new(),
            root: PathBuf::new(),
            lock: None,
            repositories: BTreeMap::new(),
        }
    }

    /// Parses the root and its modules.
    ///
    /// # Errors
    /// Returns all errors, with the sources that they refer to.
    pub fn load(mut self, root: Manifest) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        self.root = root.root.clone();
        let all = 0..self.sources.files.len();
        let is_readable = self.problems.is_empty();
        let (mut manifest, _) = self.parse(root, all, is_readable, None);
        self.problems.extend(value_cycles::check(&manifest));
        if self.problems.is_empty() {
            manifest.digest = Some(self.digest());
            manifest.sources = self.sources;
            return Ok(manifest);
        }
        self.problems.sort_by_key(|problem| problem.at.as_ref().map(|(span, _)| *span));
        Err((self.sources, self.problems))
    }

    /// Parses these files, loads the modules that they call, and checks the references. Returns whether the manifest is complete: the definitions in
    /// a file that cannot be read would be reported as missing too.
    fn parse(
        &mut self,
        mut manifest: Manifest,
        files: Range<usize>,
        mut is_complete: bool,
        outer: Option<&Caller>,
    ) -> (Manifest, bool) {
        let mut loader = Loader::new(&mut manifest, outer.is_some());
        for (file, source) in self.sources.files.iter().enumerate().filter(|(file, _)| files.contains(file)) {
            match DeTable::parse_recoverable(&source.text) {
                (document, errors) if errors.is_empty() => {
                    self.problems.extend(loader.file(Reader::new(file, &source.text), document.get_ref()));
                }
                (_, errors) => {
                    is_complete = false;
                    self.problems.extend(syntax_errors(file, &source.text, &errors));
                }
            }
        }
        let folder = real(&manifest.root);
        let mut modules = std::mem::take(&mut manifest.modules);
        for (name, call) in &mut modules {
            let caller = Caller { manifest: &manifest, folder: &folder, outer };
            match self.module(name, call, &caller) {
                Ok(module) => (call.manifest, call.is_loaded) = (module, true),
                Err(problem) => self.problems.extend(problem.map(|problem| *problem)),
            }
        }
        manifest.modules = modules;
        if is_complete {
            self.problems.extend(references::check(&manifest, outer.is_some()));
        }
        (manifest, is_complete)
    }

    /// Returns the module of a call, or the problem. There is none if it is reported already.
    fn module(
        &mut self,
        name: &str,
        call: &ModuleCall,
        caller: &Caller,
    ) -> Result<Arc<Manifest>, Option<Box<Diagnostic>>> {
        let (source, span) = &call.source;
        let problem = |summary: String| Diagnostic::error(format!("module.{name}: {summary}")).at(*span, "");
        if source.is_empty() {
            return Err(None);
        }
        let source = Source::parse(source).map_err(|reason| {
            let help = "write the folder relative to the manifest, as in source = \"./modules/web\", or git::URL//FOLDER?ref=TAG";
            Some(Box::new(problem(reason.to_owned()).help(help)))
        })?;
        let module = match &source {
            Source::Folder(path) => inside(caller.manifest, path),
            Source::Git(source, path) => self.fetched(caller.manifest, source, path),
        };
        let module = module.map_err(|(message, help)| {
            let error = problem(message);
            Some(Box::new(Diagnostic { help: help.map(str::to_owned), ..error }))
        })?;
        let (folder, files) = (module.root.clone(), module.files());
        if !folder.is_dir() {
            let help = "`source` is a folder relative to the folder of the file that calls the module";
            let summary = format!("the folder {} does not exist", folder.display());
            return Err(Some(Box::new(problem(summary).help(help))));
        }
        let place = real(&folder);
        if let Some(cycle) = cycle(caller, &place) {
            let help = "a module cannot call itself, directly or through other modules";
            let error = Diagnostic::error(format!("modules form a cycle: {cycle}")).code(error_codes::CYCLE);
            return Err(Some(Box::new(error.at(*span, "").help(help))));
        }
        if let Some(known) = self.loaded.get(&place) {
            return known.clone().ok_or(None);
        }
        let paths = manifest_files(&folder).map_err(|error| Some(Box::new(problem(error.summary.clone()))))?;
        let first = self.sources.files.len();
        for path in paths {
            let read = files.check(&path).and_then(|()| {
                bounded::read_text(&path, bounded::TEXT)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))
            });
            let text = read.map_err(|message| Some(Box::new(problem(message))))?;
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.labels.push(format!("{}/{file}", module.label));
            self.sources.calls.insert(self.sources.files.len(), (format!("module.{name}"), call.span));
            self.sources.files.push(SourceFile { path, text });
        }
        let (module, is_complete) = self.parse(module, first..self.sources.files.len(), true, Some(caller));
        let module = is_complete.then(|| Arc::new(module));
        self.loaded.insert(place, module.clone());
        module.ok_or(None)
    }

    /// Returns the empty module of a repository, and records that the repository is needed.
    fn fetched(&mut self, caller: &Manifest, source: &GitSource, path: &Path) -> Result<Manifest, Problem> {
        let (root, lock) = (&self.root, &mut self.lock);
        let find = || match lock.get_or_insert_with(|| LockFile::read(root)) {
            Ok(lock) => lock.folder(root, source).map_err(|(message, help)| (message, Some(help))),
            Err(message) => Err((message.clone(), None)),
        };
        let tree = self.repositories.entry(source.clone()).or_insert_with(find).clone()?;
        Ok(Manifest {
            root: normal(&tree.join(path)),
            label: format!("{source}//{}", path.display()),
            // Fetched files are in the data folder of moorfast, which an untrusted manifest cannot read otherwise.
            untrusted: caller.untrusted.as_ref().map(|_| tree.join(".moorfast")),
            boundary: Some(tree),
            ..Manifest::default()
        })
    }

    /// Returns the repositories that the root and its modules need, as far as they are fetched, and whether each is.
    pub fn repositories(mut self, root: Manifest) -> BTreeMap<GitSource, bool> {
        self.root = root.root.clone();
        let all = 0..self.sources.files.len();
        self.parse(root, all, true, None);
        self.repositories.into_iter().map(|(source, folder)| (source, folder.is_ok())).collect()
    }

    /// Returns the digest of all sources with their names.
    fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for (name, SourceFile { text, .. }) in self.labels.iter().zip(&self.sources.files) {
            bytes.extend_from_slice(format!("{name}\0{}\0{text}", text.len()).as_bytes());
        }
        Digest::of(&bytes)
    }
}

/// Returns the names of the modules from the one in `folder` to itself, if the caller is inside of it.
fn cycle(caller: &Caller, folder: &Path) -> Option<String> {
    let callers = std::iter::successors(Some(caller), |caller| caller.outer);
    let mut names: Vec<&Manifest> = Vec::new();
    for Caller { manifest, folder: outer, .. } in callers {
        names.push(manifest);
        if *outer == folder {
            let name = |manifest: &&Manifest| match manifest.label.is_empty() {
                true => "the manifest".to_owned(),
                false => manifest.label.clone(),
            };
            let round: Vec<_> = names.iter().rev().chain(names.last()).map(name).collect();
            return Some(round.join(" → "));
        }
    }
    None
}

/// Returns the empty module in a folder relative to that of its caller.
fn inside(caller: &Manifest, path: &Path) -> Result<Manifest, Problem> {
    let folder = normal(&caller.root.join(path));
    if caller.files().check(&folder).is_err() {
        let message = format!(
            "`plan --untrusted` uses only modules in the folder of the manifest, and {} is not one of them",
            folder.display()
        );
        return Err((message, None));
    }
    let boundary = caller.boundary.clone().unwrap_or_else(|| caller.root.clone());
    if caller.label.starts_with(GIT) && !real(&folder).starts_with(real(&boundary)) {
        return Err((format!("{} leaves the repository of the module", path.display()), None));
    }
    let label = normal(&Path::new(&caller.label).join(path)).to_string_lossy().into_owned();
    let untrusted = caller.untrusted.clone();
    Ok(Manifest { root: folder, label, untrusted, boundary: Some(boundary), ..Manifest::default() })
}

/// Returns the path without `.`.
fn normal(path: &Path) -> PathBuf {
    let normal: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if normal.as_os_str().is_empty() { PathBuf::from(".") } else { normal }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

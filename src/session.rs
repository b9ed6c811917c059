//! What every command starts from: the options that all have, the manifest and the state they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::Severity;
use moorfast_engine::provider::Provider;
use moorfast_engine::reference::BlockSchemas;
use moorfast_engine::state::{Location, Lock, LockRequest, Snapshot, Store};
use moorfast_engine::workspace::Workspace;

use crate::backend;
use crate::cli::Globals;
use crate::error::Error;
use crate::inputs::Inputs;
use crate::ui::Ui;

/// The options that all commands have, and the way to the screen.
pub struct Session {
    /// The options.
    pub globals: Globals,
    /// The way to the screen.
    pub ui: Ui,
    /// Whether the manifest is somebody else's and is not trusted.
    pub untrusted: bool,
}

impl Session {
    /// The same session, for a manifest that is not trusted if `untrusted` is true.
    pub fn reading(&self, untrusted: bool) -> Self {
        Self { globals: self.globals.clone(), ui: self.ui, untrusted }
    }

    /// The folder of moorfast's own things: state, key, known hosts.
    pub fn data_dir(&self) -> PathBuf {
        self.globals.state.clone().unwrap_or_else(|| self.root().join(".moorfast"))
    }

    /// The folder of the manifest.
    pub fn root(&self) -> PathBuf {
        let manifest = &self.globals.manifest;
        if manifest.is_dir() {
            return manifest.clone();
        }
        manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
    }

    /// The name of the site and environment for people: what was given, or where the manifest is in its repository.
    pub fn site(&self) -> String {
        if let Some(site) = &self.globals.site {
            return site.clone();
        }
        let root = self.root();
        let root = root.canonicalize().unwrap_or(root);
        let repository = root.ancestors().find(|folder| folder.join(".git").exists());
        let inside = repository.and_then(|repository| root.strip_prefix(repository).ok());
        let name = inside.filter(|path| !path.as_os_str().is_empty()).map(Path::as_os_str).or(root.file_name());
        name.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The manifest.
    ///
    /// # Errors
    /// If there is none, or everything that is wrong with it.
    pub fn manifest(&self) -> Result<Arc<Manifest>, Error> {
        let path = &self.globals.manifest;
        if is_empty_folder(path) {
            let place = path.canonicalize().unwrap_or_else(|_| path.clone());
            return Err(Error::usage(
                format!("there is no manifest in {}", place.display()),
                "`moorfast init` writes one to start from; `-C DIR` works in another folder",
            ));
        }
        let manifest = match self.untrusted {
            true => Manifest::load_untrusted(path, &self.data_dir()),
            false => Manifest::load(path),
        };
        manifest.map(Arc::new).map_err(|(sources, diagnostics)| Error::Manifest { sources, diagnostics })
    }

    /// The manifest with its providers and the values of its variables.
    ///
    /// # Errors
    /// If the manifest or a value is wrong.
    pub fn workspace(&self, inputs: &Inputs) -> Result<Workspace, Error> {
        let manifest = self.manifest()?;
        let variables = inputs.values(&manifest)?;
        Ok(Workspace { manifest, providers: providers(), variables, data_dir: self.data_dir(), site: self.site() })
    }

    /// The workspace, after everything was checked that can be without the state and the world: a wrong manifest leaves no trace.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn checked_workspace(&self, inputs: &Inputs) -> Result<Workspace, Error> {
        let workspace = self.workspace(inputs)?;
        let diagnostics = workspace.validate();
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return Err(Error::Manifest { sources: workspace.manifest.sources.clone(), diagnostics });
        }
        Ok(workspace)
    }

    /// The state, made where there is none yet.
    ///
    /// # Errors
    /// If it can't be opened, or is not where the manifest keeps it.
    pub async fn store(&self) -> Result<Store, Error> {
        let location = self.location().await?;
        let store = Store::open_at(&location.clone().in_folder(&self.root()), &self.data_dir()).await?;
        backend::is_the_same(&self.data_dir(), &location, &store).await?;
        backend::record(&self.data_dir(), &location, &store).await?;
        Ok(store)
    }

    /// Opens the existing state for a command that reads nodes and clusters and records what it saw: for writing if possible, otherwise for reading.
    ///
    /// # Errors
    /// If there is no state, it can be opened neither way, or it is not where the manifest keeps it.
    pub async fn store_for_a_look(&self) -> Result<Store, Error> {
        let readable = self.state().await?;
        Ok(self.store().await.unwrap_or(readable))
    }

    /// Opens the existing state for reading.
    ///
    /// # Errors
    /// If there is no state, it cannot be opened, or it is not where the manifest keeps it.
    pub async fn state(&self) -> Result<Store, Error> {
        self.existing_store().await?.ok_or_else(|| {
            Error::usage(
                format!("there is no state in {}", self.data_dir().display()),
                "the first apply creates it; `--state DIR` names another folder",
            )
        })
    }

    /// Returns the content of a state that holds something. An empty state knows nothing, so nothing can be reported from it.
    ///
    /// # Errors
    /// If there is no state, or it holds neither objects nor outputs.
    pub async fn filled(&self, store: &Store) -> Result<Snapshot, Error> {
        let snapshot = store.snapshot().await?;
        if snapshot.records.is_empty() && snapshot.outputs.is_empty() && snapshot.intents.is_empty() {
            return Err(Error::usage(
                format!("the state in {} is empty: it holds no objects and no outputs", self.data_dir().display()),
                "`moorfast apply` fills it; `--state DIR` names another folder",
            ));
        }
        Ok(snapshot)
    }

    /// The state, for reading; none where there is none yet.
    ///
    /// # Errors
    /// If it can't be opened, or is not where the manifest keeps it.
    pub async fn existing_store(&self) -> Result<Option<Store>, Error> {
        let location = self.location().await?;
        let found = Store::open_existing_at(&location.clone().in_folder(&self.root()), &self.data_dir()).await?;
        if let Some(store) = &found {
            backend::is_the_same(&self.data_dir(), &location, store).await?;
        }
        Ok(found)
    }

    /// Notes that the state is another one now, after it was replaced.
    ///
    /// # Errors
    /// If it can't be noted.
    pub async fn note_state(&self, store: &Store) -> Result<(), Error> {
        match self.location().await? {
            Location::Sqlite {} => Ok(()),
            location => backend::note(&self.data_dir(), &location, store).await,
        }
    }

    /// Where the state is. A manifest that is missing or wrong has no say in it, so that the state can be looked at all the same.
    async fn location(&self) -> Result<Location, Error> {
        let wanted = self.manifest().ok().map(|manifest| backend::wanted(&manifest)).transpose()?;
        if self.untrusted {
            backend::check_untrusted(wanted.as_ref(), &self.root(), &self.data_dir())?;
        }
        backend::agreed(wanted, &self.root(), &self.data_dir()).await
    }

    /// The right to write the state.
    ///
    /// # Errors
    /// If somebody else has it for longer than `timeout`.
    pub async fn lock(&self, store: &Store, operation: &str, timeout: Duration) -> Result<Lock, Error> {
        let lock = store.lock(LockRequest::new(operation), timeout).await?;
        if let Some(dead) = lock.instead_of() {
            self.ui.note(format!("The lock of a run that is gone was taken over: {dead}\n"));
        }
        Ok(lock)
    }
}

/// The providers that this binary has.
pub fn providers() -> Vec<Arc<dyn Provider>> {
    vec![Arc::new(moorfast_ssh::SshProvider), Arc::new(moorfast_kubernetes::KubernetesProvider)]
}

/// Everything that a manifest may hold.
pub fn catalogue() -> BlockSchemas {
    let providers = providers();
    BlockSchemas::new(&providers.iter().map(AsRef::as_ref).collect::<Vec<_>>(), backend::schemas())
}

fn is_empty_folder(path: &Path) -> bool {
    let Ok(entries) = path.read_dir() else { return false };
    !entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".toml") && !name.starts_with('.') && !name.ends_with(".vars.toml") && !is_of_rust(&name)
    })
}

/// Files of Rust's own that may lie beside a manifest-less folder.
pub fn is_of_rust(name: &str) -> bool {
    ["Cargo.toml", "rust-toolchain.toml", "rustfmt.toml", "clippy.toml", "deny.toml"].contains(&name)
}

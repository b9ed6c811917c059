//! The invocation of a command: the global options, the manifest and the state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moorfast_engine::manifest::{Manifest, is_manifest_file};
use moorfast_engine::model::{Diagnostic, Severity, Sources, Value, error_codes};
use moorfast_engine::provider::Provider;
use moorfast_engine::reference::BlockSchemas;
use moorfast_engine::session::{Events, Interrupt};
use moorfast_engine::state::{EnvironmentName, Location, Lock, LockRequest, Run, Snapshot, Store};
use moorfast_engine::workspace::Workspace;

use crate::backend;
use crate::environment;
use crate::error::Error;
use crate::globals::Globals;
use crate::inputs::Inputs;
use crate::render::{DerivedAttributes, TextOptions};
use crate::signals;
use crate::ui::Ui;
use crate::{ProviderFactory, RunOptions};

/// A manifest, or its texts with all errors in them.
type LoadedManifest = Result<Arc<Manifest>, (Sources, Vec<Diagnostic>)>;

/// The global options and the output of a command.
pub struct Invocation {
    /// The global options.
    pub globals: Globals,
    /// Standard output and standard error.
    pub ui: Ui,
    /// Whether the manifest is from somebody who is not trusted.
    pub untrusted: bool,
    /// The providers that the binary has.
    pub providers: Vec<Arc<dyn Provider>>,
    /// The manifest, loaded when it is first needed.
    manifest: OnceLock<LoadedManifest>,
    /// The derived attributes, collected when they are first needed.
    derived: OnceLock<DerivedAttributes>,
    /// The values of the variables, which the location of the state may depend on.
    variables: OnceLock<BTreeMap<String, Value>>,
}

impl Invocation {
    /// Returns the invocation of a command whose manifest is trusted.
    pub fn new(globals: Globals, ui: Ui) -> Self {
        let (providers, manifest, derived, variables) = Default::default();
        Self { globals, ui, untrusted: false, providers, manifest, derived, variables }
    }

    /// Returns this invocation with the providers that these functions build.
    pub fn with_providers(self, factories: &[ProviderFactory]) -> Self {
        let options = RunOptions { root: self.root(), data_dir: self.data_dir() };
        Self { providers: factories.iter().map(|build| build(&options)).collect(), ..self }
    }

    /// Returns this invocation. `untrusted` is whether its manifest is from somebody who is not trusted.
    pub fn with_untrusted(&self, untrusted: bool) -> Self {
        Self { untrusted, providers: self.providers.clone(), ..Self::new(self.globals.clone(), self.ui) }
    }

    /// Returns the catalogue of everything that a manifest can contain.
    pub fn catalogue(&self) -> BlockSchemas {
        BlockSchemas::new(&self.providers.iter().map(AsRef::as_ref).collect::<Vec<_>>(), backend::schemas())
    }

    /// Returns the options of text on standard output. `full` is whether to show long texts in full.
    pub fn text_options(&self, full: bool) -> TextOptions<'_> {
        TextOptions { width: self.ui.width(), full, derived: self.derived_attributes() }
    }

    /// Returns the derived attributes of all resource types.
    pub fn derived_attributes(&self) -> &DerivedAttributes {
        self.derived.get_or_init(|| DerivedAttributes::of(&self.providers))
    }

    /// Returns this invocation in another environment.
    pub fn in_environment(&self, environment: Option<EnvironmentName>) -> Self {
        let mut globals = self.globals.clone();
        globals.env = environment;
        Self { untrusted: self.untrusted, providers: self.providers.clone(), ..Self::new(globals, self.ui) }
    }

    /// Returns the folder of moorfast's own files, which all environments share.
    pub fn data_dir(&self) -> PathBuf {
        self.globals.state.clone().unwrap_or_else(|| self.root().join(".moorfast"))
    }

    /// Returns the folder of the state: of its key, the known hosts and everything else that belongs to one environment.
    pub fn state_dir(&self) -> PathBuf {
        EnvironmentName::folder(self.globals.env.as_ref(), &self.data_dir())
    }

    /// Returns the folder of the manifest.
    pub fn root(&self) -> PathBuf {
        let manifest = &self.globals.manifest;
        if manifest.is_dir() {
            return manifest.clone();
        }
        manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
    }

    /// Returns the name of the site: the option `--site`, or the path of the manifest in its repository.
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

    /// Returns the manifest in the chosen environment.
    ///
    /// # Errors
    /// If there is no manifest, all errors in it, or if none of its environments is chosen.
    pub fn manifest(&self) -> Result<Arc<Manifest>, Error> {
        let manifest = self.any_manifest()?;
        environment::check(&manifest)?;
        Ok(manifest)
    }

    /// Returns the manifest, whether or not one of its environments is chosen. It is loaded once.
    ///
    /// # Errors
    /// If there is no manifest, or all errors in it.
    pub fn any_manifest(&self) -> Result<Arc<Manifest>, Error> {
        let path = &self.globals.manifest;
        if is_empty_folder(path) {
            let place = path.canonicalize().unwrap_or_else(|_| path.clone());
            return Err(Error::Usage {
                message: format!("cannot find a manifest in {}: the folder has no *.toml files", place.display()),
                help: Some(
                    "run `moorfast init` to create a manifest, or use `-C DIR` to change to another folder".to_owned(),
                ),
                code: Some(error_codes::NO_MANIFEST),
            });
        }
        let load = || match self.untrusted {
            true => Manifest::load_untrusted(path, &self.data_dir()),
            false => Manifest::load(path),
        };
        let no_local_commands = self.globals.no_local_commands;
        let chosen = |manifest: Manifest| {
            let manifest = manifest.in_environment(self.globals.env.clone());
            Arc::new(Manifest { no_local_commands, ..manifest })
        };
        let manifest = self.manifest.get_or_init(|| load().map(chosen)).clone();
        manifest.map_err(|(sources, diagnostics)| Error::Manifest { sources, diagnostics })
    }

    /// Loads the manifest with its providers and the values of its variables.
    ///
    /// # Errors
    /// If the manifest or the value of a variable is invalid.
    pub fn workspace(&self, inputs: &Inputs) -> Result<Workspace, Error> {
        let manifest = self.manifest()?;
        let variables = inputs.values(&manifest)?;
        self.variables.get_or_init(|| variables.clone());
        Ok(self.workspace_of(manifest, variables))
    }

    /// Returns the workspace of a manifest with these values of its variables.
    pub fn workspace_of(&self, manifest: Arc<Manifest>, variables: BTreeMap<String, Value>) -> Workspace {
        Workspace::new(manifest, self.providers.clone(), variables, self.data_dir(), self.site())
    }

    /// Reads the static data of a workspace, on which its nodes and instances can depend. A plan does this itself.
    ///
    /// # Errors
    /// If the manifest is invalid, or data cannot be read.
    pub async fn read_static_data(&self, workspace: &Workspace) -> Result<(), Error> {
        let read = async |interrupt: &Interrupt| workspace.read_static_data(&Events::default(), interrupt).await;
        signals::interruptible(read)
            .await
            .map_err(|failure| Error::Run { failure: Box::new(failure), manifest: workspace.manifest.clone() })
    }

    /// Loads and validates the manifest. An invalid manifest is reported before the state is opened.
    ///
    /// # Errors
    /// All errors in the manifest.
    pub fn checked_workspace(&self, inputs: &Inputs) -> Result<Workspace, Error> {
        let workspace = self.workspace(inputs)?;
        let diagnostics = workspace.validate();
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            let manifest = &workspace.manifest;
            let others = manifest.environments.keys().filter(|name| Some(*name) != manifest.environment.as_ref());
            let others =
                others.cloned().map(|name| (Some(name.clone()), self.diagnostics_in(manifest, Some(name), inputs)));
            let chosen = (manifest.environment.clone(), diagnostics);
            let diagnostics =
                environment::named(&chosen.1, &[chosen.clone()].into_iter().chain(others).collect::<Vec<_>>());
            return Err(Error::Manifest { sources: manifest.sources.clone(), diagnostics });
        }
        Ok(workspace)
    }

    /// Returns all errors and warnings of the manifest in an environment. Variables need no values, and secrets no key.
    pub fn diagnostics_in(
        &self,
        manifest: &Manifest,
        environment: Option<EnvironmentName>,
        inputs: &Inputs,
    ) -> Vec<Diagnostic> {
        let manifest = manifest.clone().in_environment(environment).with_unknown_secrets();
        let variables = match inputs.known_values(&manifest) {
            Ok(variables) => variables,
            Err(Error::Manifest { diagnostics, .. }) => return diagnostics,
            Err(error) => return vec![Diagnostic::error(error.to_string())],
        };
        let of_backend = backend::check(&manifest, &variables);
        let mut found = self.workspace_of(Arc::new(manifest), variables).validate();
        found.extend(of_backend);
        found
    }

    /// Opens the state, and creates it if it does not exist.
    ///
    /// # Errors
    /// If the state cannot be opened, or is in another backend than the manifest configures.
    pub async fn store(&self) -> Result<Store, Error> {
        let (location, folder) = (self.location().await?, self.state_dir());
        let store = Store::open_at(&location.clone().in_folder(&self.root()), &folder).await?;
        // An untrusted manifest could bring a record that names a server of its author.
        if self.globals.env.is_some() && !self.untrusted {
            backend::check_without_environment(&store, &self.root(), &self.data_dir()).await?;
        }
        backend::check_lineage(&folder, &location, &store).await?;
        backend::record(&folder, &location, &store).await?;
        Ok(store)
    }

    /// Opens the existing state for writing if possible, otherwise for reading.
    ///
    /// # Errors
    /// If there is no state, it cannot be opened, or it is in another backend than the manifest configures.
    pub async fn writable_or_readable_store(&self) -> Result<Store, Error> {
        let readable = self.state().await?;
        Ok(self.store().await.unwrap_or(readable))
    }

    /// Opens the existing state for reading.
    ///
    /// # Errors
    /// If there is no state, it cannot be opened, or it is in another backend than the manifest configures.
    pub async fn state(&self) -> Result<Store, Error> {
        self.existing_store().await?.ok_or_else(|| {
            Error::usage(
                format!("cannot find the state in {}: it does not exist", self.state_dir().display()),
                "run `moorfast apply` to create it, or use `--state DIR` for another folder",
            )
        })
    }

    /// Returns the content of a state that is not empty.
    ///
    /// # Errors
    /// If the state has neither objects nor outputs, so that there is nothing to report.
    pub async fn filled(&self, store: &Store) -> Result<Snapshot, Error> {
        let snapshot = store.snapshot().await?;
        if snapshot.records.is_empty() && snapshot.outputs.is_empty() && snapshot.intents.is_empty() {
            return Err(Error::usage(
                format!("the state in {} is empty: it has no objects and no outputs", self.state_dir().display()),
                "run `moorfast apply` first, or use `--state DIR` for another folder",
            ));
        }
        Ok(snapshot)
    }

    /// Opens the state for reading. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// If the state cannot be opened, or is in another backend than the manifest configures.
    pub async fn existing_store(&self) -> Result<Option<Store>, Error> {
        let location = self.location().await?;
        let found = Store::open_existing_at(&location.clone().in_folder(&self.root()), &self.state_dir()).await?;
        if let Some(store) = &found {
            backend::check_lineage(&self.state_dir(), &location, store).await?;
        }
        Ok(found)
    }

    /// Records the lineage of the state after it was replaced.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub async fn record_lineage(&self, store: &Store) -> Result<(), Error> {
        match self.location().await? {
            Location::Sqlite {} => Ok(()),
            location => backend::write_record(&self.state_dir(), &location, store).await,
        }
    }

    /// Returns the location of the state. A missing or invalid manifest is ignored, so that the state can still be inspected.
    async fn location(&self) -> Result<Location, Error> {
        let configured = match self.any_manifest() {
            Ok(_) => Some(self.configured_location()?),
            Err(error) if self.globals.env.is_none() && EnvironmentName::folders(&self.data_dir()).exists() => {
                // The manifest has environments, and which one is meant is unknown.
                return Err(error);
            }
            Err(_) => None,
        };
        if self.untrusted {
            backend::check_untrusted(configured.as_ref(), &self.root(), &self.state_dir())?;
        }
        backend::agreed(configured, &self.root(), &self.state_dir()).await
    }

    /// Returns the location that the manifest configures for the state of the chosen environment.
    ///
    /// # Errors
    /// If no environment is chosen, or `[backend.TYPE]` is invalid.
    pub fn configured_location(&self) -> Result<Location, Error> {
        let manifest = self.manifest()?;
        match self.variables.get() {
            Some(variables) => backend::configured(&manifest, variables),
            // A command without options for variables needs only the values that the location depends on.
            None => backend::configured(&manifest, &Inputs::default().known_values(&manifest)?),
        }
    }

    /// Returns a run of `command` for the history of the state.
    pub fn new_run(&self, command: impl Into<String>) -> Run {
        Run::new(command).in_environment(self.globals.env.clone())
    }

    /// Locks the state.
    ///
    /// # Errors
    /// If another run holds the lock for longer than `timeout`.
    pub async fn lock(&self, store: &Store, operation: &str, timeout: Duration) -> Result<Lock, Error> {
        let lock = store.lock(LockRequest::new(operation), timeout).await?;
        if let Some(dead) = lock.instead_of() {
            self.ui.note(format!("Removed the lock of a run that no longer exists: {dead}\n"));
        }
        Ok(lock)
    }
}

fn is_empty_folder(path: &Path) -> bool {
    let Ok(entries) = path.read_dir() else { return false };
    !entries.flatten().any(|entry| is_manifest_file(&entry.file_name().to_string_lossy()))
}

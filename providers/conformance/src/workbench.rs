//! A manifest with its state, in a temporary folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moorfast_engine::apply::{ApplyOptions, Report};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::Address;
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::Provider;
use moorfast_engine::session::{Events, Failure, Interrupt};
use moorfast_engine::state::{Lock, LockRequest, Snapshot, Store};
use moorfast_engine::workspace::{Planned, Workspace};
use tempfile::TempDir;

/// The folder of the state beside the manifest.
pub(crate) const STATE: &str = ".moorfast";

/// A manifest with its providers and its state, in a temporary folder that is removed at the end.
pub struct Workbench {
    providers: Vec<Arc<dyn Provider>>,
    folder: TempDir,
    data_dir: PathBuf,
}

impl Workbench {
    /// Returns an empty workbench for these providers.
    ///
    /// # Errors
    /// If the temporary folder cannot be created.
    pub fn new(providers: &[Arc<dyn Provider>]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let data_dir = folder.path().join(STATE);
        Ok(Self { providers: providers.to_vec(), folder, data_dir })
    }

    /// Returns the folder of the manifest.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder where moorfast keeps the state and its other files.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Continues with the state in this folder beside the manifest.
    pub(crate) fn use_state(&mut self, name: &str) {
        self.data_dir = self.folder.path().join(name);
    }

    /// Writes the manifest, in place of the one before.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, manifest: &str) -> io::Result<()> {
        std::fs::write(self.path().join("moorfast.toml"), manifest)
    }

    /// Returns the workspace of the manifest as it is written now.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn workspace(&self) -> Result<Workspace, Failure> {
        let manifest = Manifest::load(self.path()).map_err(|(_, errors)| Failure::Manifest(errors))?;
        Ok(Workspace::new(
            Arc::new(manifest),
            self.providers.clone(),
            BTreeMap::new(),
            self.data_dir.clone(),
            "test".to_owned(),
        ))
    }

    /// Opens the state.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.data_dir).await?)
    }

    /// Returns the content of the state.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn state(&self) -> Result<Snapshot, Failure> {
        Ok(self.store().await?.snapshot().await?)
    }

    /// Plans, for an apply by [`Workbench::carry_out`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn planned(&self, options: &PlanOptions, interrupt: &Interrupt) -> Result<Planned, Failure> {
        let store = self.store().await?;
        let state = store.snapshot().await?;
        self.workspace()?.plan(&state, store.seal_key(), options, &Events::default(), interrupt).await
    }

    /// Applies what [`Workbench::planned`] returned.
    ///
    /// # Errors
    /// If the state cannot be locked.
    pub async fn carry_out(&self, planned: Planned, interrupt: &Interrupt) -> Result<Report, Failure> {
        self.carry_out_with(planned, apply_options(), interrupt).await
    }

    async fn carry_out_with(
        &self,
        planned: Planned,
        options: ApplyOptions,
        interrupt: &Interrupt,
    ) -> Result<Report, Failure> {
        let lock = self.lock("apply").await?;
        let report = planned.apply(&lock, options, &Events::default(), interrupt).await;
        lock.release().await?;
        Ok(report)
    }

    /// Returns the plan as it is now.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn plan(&self, options: &PlanOptions) -> Result<Plan, Failure> {
        Ok(self.planned(options, &Interrupt::default()).await?.close().await)
    }

    /// Plans and applies.
    ///
    /// # Errors
    /// See [`Failure`]; a failed operation is in the report.
    pub async fn apply(&self, options: &PlanOptions, interrupt: &Interrupt) -> Result<Report, Failure> {
        let planned = self.planned(options, interrupt).await?;
        self.carry_out(planned, interrupt).await
    }

    /// Applies a plan that was reviewed. An object that changed after the review is skipped.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn apply_reviewed(&self, plan: Plan) -> Result<Report, Failure> {
        let (events, interrupt) = (Events::default(), Interrupt::default());
        let store = self.store().await?;
        let state = store.snapshot().await?;
        let planned = self.workspace()?.resume(plan, &state, store.seal_key(), &events, &interrupt).await?;
        self.carry_out_with(planned, ApplyOptions { verify: true, ..apply_options() }, &interrupt).await
    }

    /// Imports existing objects under an address. Returns the addresses that are recorded.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn import(&self, address: &Address) -> Result<Vec<Address>, Failure> {
        let (events, interrupt) = (Events::default(), Interrupt::default());
        let store = self.store().await?;
        let state = store.snapshot().await?;
        let lock = store.lock(LockRequest::new("import"), Duration::ZERO).await?;
        let workspace = self.workspace()?;
        let imported =
            workspace.import(&address.clone().into(), &state, store.seal_key(), &lock, &events, &interrupt).await;
        lock.release().await?;
        imported
    }

    /// Takes the lock of the state.
    ///
    /// # Errors
    /// If another run has it.
    pub async fn lock(&self, operation: &str) -> Result<Lock, Failure> {
        Ok(self.store().await?.lock(LockRequest::new(operation), Duration::ZERO).await?)
    }
}

/// Returns the options of an apply in tests.
pub fn apply_options() -> ApplyOptions {
    ApplyOptions { run: "test".to_owned(), parallelism: 10, per_target: 4, verify: false }
}

//! The common options of plan, apply, destroy and drift, and a run from the manifest to a plan.

use std::time::Duration;

use clap::Args;
use moorfast_engine::model::{DURATION_EXAMPLES, Diagnostic, NodeName, Pattern, Replacement};
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::session::{Failure, Interrupt};
use moorfast_engine::state::{Lock, Snapshot, StateError, Store};
use moorfast_engine::workspace::{Planned, Workspace};

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::invocation::Invocation;
use crate::render::diagnostic::diagnostics;
use crate::render::progress::{ProgressFormat, ProgressPrinter};
use crate::render::text::Text;
use crate::signals;

/// The options that select the planned instances.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Plan options")]
pub struct Selection {
    /// Plan only this instance, resource or module with its dependencies; to destroy, with its dependants (can be repeated)
    #[arg(long, value_name = "ADDRESS", add = completer(Names::Addresses))]
    pub target: Vec<Pattern>,
    /// Exclude this instance, resource or module with its dependants; to destroy, with its dependencies; for `drift`, only itself (can be repeated)
    #[arg(long, value_name = "ADDRESS", add = completer(Names::Addresses))]
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Returns the options for the engine.
    pub fn options(&self, mode: PlanMode) -> PlanOptions {
        PlanOptions { mode, targets: self.target.clone(), exclude: self.exclude.clone(), ..PlanOptions::default() }
    }
}

/// The options that request replacements.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Plan options")]
pub struct Replacements {
    /// Replace this instance even if it has no changes (can be repeated)
    #[arg(long, value_name = "ADDRESS", add = completer(Names::Addresses))]
    replace: Vec<Pattern>,
    /// Accept the machine that now answers as NODE as its replacement; FINGERPRINT accepts only that host key (can be repeated)
    #[arg(long, value_name = "NODE[=FINGERPRINT]", add = completer(Names::Nodes))]
    replace_node: Vec<Replacement>,
    #[command(flatten)]
    dead: DeadNodes,
}

/// The option for nodes whose machine does not exist any more.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Plan options")]
pub struct DeadNodes {
    /// The machine of NODE does not exist any more: remove the objects on it from the state, and destroy its objects in clusters (can be repeated)
    #[arg(long, value_name = "NODE")]
    dead_node: Vec<String>,
}

impl DeadNodes {
    /// Returns `options` with these nodes.
    pub fn add_to(&self, options: PlanOptions) -> PlanOptions {
        PlanOptions { dead_nodes: self.dead_node.iter().cloned().map(NodeName).collect(), ..options }
    }
}

impl Replacements {
    /// Returns `options` with these replacements.
    pub fn add_to(&self, options: PlanOptions) -> PlanOptions {
        let options = self.dead.add_to(options);
        PlanOptions { replace: self.replace.clone(), replace_nodes: self.replace_node.clone(), ..options }
    }
}

/// Parses a duration on the command line, such as `30s`, `5m` or `0s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    moorfast_engine::model::parse_duration(text).ok_or_else(|| format!("expected {DURATION_EXAMPLES}"))
}

/// A run of a command, with its signal handling and its progress output.
pub struct Run<'a> {
    /// The options and the output of the command.
    pub invocation: &'a Invocation,
    /// The manifest with its providers and variables.
    pub workspace: &'a Workspace,
    /// The interrupt that signals set.
    pub interrupt: Interrupt,
    /// The progress output.
    pub progress: ProgressPrinter,
}

impl<'a> Run<'a> {
    /// Starts a run, which handles signals from now on.
    pub fn new(invocation: &'a Invocation, workspace: &'a Workspace, format: ProgressFormat) -> Self {
        let progress = ProgressPrinter::start(invocation.ui, format);
        Self { invocation, workspace, interrupt: signals::listen(progress.notices()), progress }
    }

    /// Locks the state.
    ///
    /// # Errors
    /// If another run holds the lock for longer than `timeout`, or a signal interrupts the wait.
    pub async fn lock(&self, store: &Store, operation: &str, timeout: Duration) -> Result<Lock, Error> {
        match self.invocation.lock(store, operation, Duration::ZERO).await {
            Err(Error::State(StateError::Locked(holder))) if !timeout.is_zero() => {
                self.invocation.ui.note(format!("Waiting for the state lock: {holder}\n"));
            }
            result => return result,
        }
        tokio::select! {
            lock = self.invocation.lock(store, operation, timeout) => lock,
            () = self.interrupt.stop.cancelled() => {
                self.progress.flush().await;
                Err(Error::Interrupted)
            }
        }
    }

    /// Reads the nodes and clusters and plans.
    ///
    /// # Errors
    /// If the plan cannot be created, or an object cannot be read.
    pub async fn plan(&self, store: &Store, snapshot: &Snapshot, options: &PlanOptions) -> Result<Planned, Error> {
        self.complete(self.plan_readable(store, snapshot, options).await?).await
    }

    /// Plans the objects that can be read. [`Planned::unread`] lists the others.
    ///
    /// # Errors
    /// If the plan cannot be created.
    pub async fn plan_readable(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        options: &PlanOptions,
    ) -> Result<Planned, Error> {
        let events = self.progress.events();
        let planned = self.workspace.plan(snapshot, store.seal_key(), options, &events, &self.interrupt).await;
        self.progress.flush().await;
        planned.map_err(|failure| self.error(failure))
    }

    /// Returns `planned` if all objects could be read.
    ///
    /// # Errors
    /// The errors of the objects that could not be read.
    pub async fn complete(&self, planned: Planned) -> Result<Planned, Error> {
        if planned.unread.is_empty() {
            return Ok(planned);
        }
        let unread = planned.unread.clone();
        planned.close().await;
        Err(self.error(Failure::Providers(unread)))
    }

    /// Evaluates the policies over `planned`. Returns it with their results and their messages. `applying` is whether the plan is about to
    /// be applied.
    ///
    /// # Errors
    /// If a policy cannot be evaluated.
    pub async fn with_policies(
        &self,
        mut planned: Planned,
        applying: bool,
    ) -> Result<(Planned, Vec<Diagnostic>), Error> {
        match planned.evaluate_policies(applying) {
            Ok(messages) => Ok((planned, messages)),
            Err(failure) => {
                planned.close().await;
                Err(self.error(failure))
            }
        }
    }

    /// Prints the messages of the policies, with their places in the manifest.
    pub fn print_policy_messages(&self, messages: &[Diagnostic]) {
        let ui = &self.invocation.ui;
        if !messages.is_empty() {
            ui.err(Text::from("\n") + diagnostics(&self.workspace.manifest.sources, messages));
        }
    }

    /// Returns the error for a failure of the engine.
    pub fn error(&self, failure: Failure) -> Error {
        Error::Run { failure: Box::new(failure), manifest: self.workspace.manifest.clone() }
    }
}

//! What plan, apply, destroy and drift have in common: their options, and the run from the manifest to a plan.

use std::time::Duration;

use clap::Args;
use moorfast_engine::model::{Address, DURATION_EXAMPLES, Diagnostic, Replacement};
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::session::{Failure, Interrupt};
use moorfast_engine::state::{Lock, Snapshot, StateError, Store};
use moorfast_engine::workspace::{Planned, Workspace};

use crate::error::Error;
use crate::render::diagnostic::diagnostics;
use crate::render::progress::{Follower, Form};
use crate::session::Session;
use crate::signals;

/// Which part of the world a plan looks at.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to plan")]
pub struct Scope {
    /// Plan only this instance or resource and what it depends on; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub target: Vec<Address>,
    /// Leave out this instance or resource and what depends on it (a look for drift: only itself); may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub exclude: Vec<Address>,
}

impl Scope {
    /// The options of the engine.
    pub fn options(&self, mode: PlanMode) -> PlanOptions {
        PlanOptions { mode, targets: self.target.clone(), exclude: self.exclude.clone(), ..PlanOptions::default() }
    }
}

/// What a plan makes anew though nothing in the manifest asks for it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to plan")]
pub struct Replacing {
    /// Replace this instance even though nothing changed; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    replace: Vec<Address>,
    /// Take the machine that answers for this node now for the node's, in place of the recorded one; with a fingerprint, as in gpu02=SHA256:…, only that very machine; may be repeated
    #[arg(long, value_name = "NODE")]
    replace_node: Vec<Replacement>,
}

impl Replacing {
    /// `options` with what is replaced.
    pub fn of(&self, options: PlanOptions) -> PlanOptions {
        PlanOptions { replace: self.replace.clone(), replace_nodes: self.replace_node.clone(), ..options }
    }
}

/// A duration on the command line: `30s`, `5m`, `0s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    moorfast_engine::model::parse_duration(text).ok_or_else(|| format!("expected {DURATION_EXAMPLES}"))
}

/// A run with its signals and its progress.
pub struct Run<'a> {
    /// Where it belongs.
    pub session: &'a Session,
    /// What it works on.
    pub workspace: &'a Workspace,
    /// The person's wish to end it.
    pub interrupt: Interrupt,
    /// Who tells how it goes.
    pub follower: Follower,
}

impl<'a> Run<'a> {
    /// A run that listens to signals from now on.
    pub fn new(session: &'a Session, workspace: &'a Workspace, form: Form) -> Self {
        let follower = Follower::start(session.ui, form);
        Self { session, workspace, interrupt: signals::listen(follower.notices()), follower }
    }

    /// The right to write the state.
    ///
    /// # Errors
    /// If somebody else has it for longer than `timeout`, or a signal ended the wait.
    pub async fn lock(&self, store: &Store, operation: &str, timeout: Duration) -> Result<Lock, Error> {
        match self.session.lock(store, operation, Duration::ZERO).await {
            Err(Error::State(StateError::Locked(holder))) if !timeout.is_zero() => {
                self.session.ui.note(format!("Waiting for another run to end: {holder}\n"));
            }
            result => return result,
        }
        tokio::select! {
            lock = self.session.lock(store, operation, timeout) => lock,
            () = self.interrupt.stop.cancelled() => Err(Error::Interrupted),
        }
    }

    /// Reads the world and plans.
    ///
    /// # Errors
    /// Whatever keeps the plan from being made, also that a target does not answer.
    pub async fn plan(&self, store: &Store, snapshot: &Snapshot, options: &PlanOptions) -> Result<Planned, Error> {
        self.whole(self.look(store, snapshot, options).await?).await
    }

    /// Plans as far as targets answer: what could not be read is told by [`Planned::unread`].
    ///
    /// # Errors
    /// Whatever keeps the plan from being made.
    pub async fn look(&self, store: &Store, snapshot: &Snapshot, options: &PlanOptions) -> Result<Planned, Error> {
        let events = self.follower.events();
        let planned = self.workspace.plan(snapshot, store.seal_key(), options, &events, &self.interrupt).await;
        self.follower.settle().await;
        planned.map_err(|failure| self.error(failure))
    }

    /// `planned`, if everything could be read.
    ///
    /// # Errors
    /// What could not.
    pub async fn whole(&self, planned: Planned) -> Result<Planned, Error> {
        if planned.unread.is_empty() {
            return Ok(planned);
        }
        let unread = planned.unread.clone();
        planned.close().await;
        Err(self.error(Failure::Providers(unread)))
    }

    /// `planned` with what the policies say of it, and their messages; `applying` where it is about to be applied.
    ///
    /// # Errors
    /// If a policy can't be evaluated.
    pub async fn judged(&self, mut planned: Planned, applying: bool) -> Result<(Planned, Vec<Diagnostic>), Error> {
        match planned.evaluate_policies(applying) {
            Ok(said) => Ok((planned, said)),
            Err(failure) => {
                planned.close().await;
                Err(self.error(failure))
            }
        }
    }

    /// Tells what the policies say, with their places in the manifest.
    pub fn tell_policies(&self, said: &[Diagnostic]) {
        let ui = &self.session.ui;
        if !said.is_empty() {
            ui.err(format!("\n{}", diagnostics(&self.workspace.manifest.sources, said, ui.error_width())));
        }
    }

    /// The error for what the engine could not do.
    pub fn error(&self, failure: Failure) -> Error {
        Error::Run { failure: Box::new(failure), manifest: self.workspace.manifest.clone() }
    }
}

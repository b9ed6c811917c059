//! A state on a server: one process at a time writes, waiting changes share a write, and every write is fenced.
//!
//! The lease records who can write and until when. The head of the state records the lock and epoch under which it can be written. A process that takes
//! the lease first raises the epoch in the head. Each write replaces exactly the version of the head that was read. If a process was suspended
//! and another one took the lock, the head has changed, and the suspended process cannot write.

mod commit;
mod core;
mod encoding;
mod head;
mod medium;
pub(crate) mod objects;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::commit::Job;
use self::core::Core;
pub(crate) use self::head::Head;
pub(crate) use self::medium::{Loaded, Medium, RequestError, Version, element, error_chain};
pub(crate) use self::rows::{Changed, Rows, Table};
#[cfg(fuzzing)]
pub(crate) use self::{
    encoding::{decode, encode},
    rows::{Draft, merge, new_head, snapshot},
};
use crate::backend::Backend;
use crate::change::Change;
use crate::drift::DriftNote;
use crate::lease::{Fence, Taken};
use crate::settings::Settings;
use crate::{DriftHistory, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// How long dropping the store waits for running requests.
const CLOSING: Duration = Duration::from_secs(5);

/// A state on a server.
///
/// It has its own thread, so that requests are completed even if their callers are gone, and so that the lock is renewed
/// even if the rest of the process is busy.
pub(crate) struct Remote<M: Medium> {
    core: Arc<Core<M>>,
    key: SealKey,
    jobs: Option<mpsc::UnboundedSender<Job>>,
    tasks: TaskTracker,
    runtime: Option<Runtime>,
}

impl<M: Medium> Remote<M> {
    /// Opens the state for writing; creates it if it does not exist.
    pub(crate) async fn open<F>(connect: F, settings: Settings) -> Result<Self, StateError>
    where
        F: Future<Output = Result<M, StateError>> + Send + 'static,
    {
        let runtime = runtime()?;
        let opening = async move {
            let core = Core::new(connect.await?, settings, false);
            let key = core.key_or_create().await?;
            Ok((core, key))
        };
        let opened = runtime.spawn(opening).await.map_err(|_| StateError::Closed);
        Self::start(runtime, opened.and_then(|opened| opened.map(Some)))
            .and_then(|store| store.ok_or(StateError::Closed))
    }

    /// Opens the state for reading only. Returns `None` if it does not exist.
    pub(crate) async fn open_existing<F>(connect: F, settings: Settings) -> Result<Option<Self>, StateError>
    where
        F: Future<Output = Result<M, StateError>> + Send + 'static,
    {
        let runtime = runtime()?;
        let opening = async move {
            let core = Core::new(connect.await?, settings, true);
            let key = core.existing_key().await?;
            Ok(key.map(|key| (core, key)))
        };
        let opened = runtime.spawn(opening).await.map_err(|_| StateError::Closed);
        Self::start(runtime, opened.and_then(|opened| opened))
    }

    fn start(
        runtime: Runtime,
        opened: Result<Option<(Core<M>, SealKey)>, StateError>,
    ) -> Result<Option<Self>, StateError> {
        let (core, key) = match opened {
            Ok(Some(opened)) => opened,
            other => {
                runtime.shutdown_background();
                return other.map(|_| None);
            }
        };
        let core = Arc::new(core);
        let (jobs, inbox) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        tasks.spawn_on(commit::serve(Arc::clone(&core), inbox), runtime.handle());
        Ok(Some(Self { core, key, jobs: Some(jobs), tasks, runtime: Some(runtime) }))
    }

    /// Runs `work` on the thread of the store.
    async fn run<T, F, W>(&self, work: W) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StateError>> + Send + 'static,
        W: FnOnce(Arc<Core<M>>) -> F,
    {
        let Some(runtime) = &self.runtime else { return Err(StateError::Closed) };
        let task = self.tasks.spawn_on(work(Arc::clone(&self.core)), runtime.handle());
        task.await.unwrap_or(Err(StateError::Closed))
    }

    /// Adds a job to the queue and waits for its result.
    async fn queue<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, StateError>>) -> Job) -> Result<T, StateError> {
        let (reply, answer) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // If the task ended, the reply is dropped with the job, which makes the answer an error.
            jobs.send(job(reply)).ok();
        }
        answer.await.unwrap_or(Err(StateError::Closed))
    }
}

/// Starts the thread for the connections of a store.
fn runtime() -> Result<Runtime, StateError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("moorfast-state")
        .enable_all()
        .build()
        .map_err(|error| StateError::io(std::path::Path::new("."), "starting the thread of the state", error))
}

impl<M: Medium> Drop for Remote<M> {
    fn drop(&mut self) {
        self.jobs.take();
        self.tasks.close();
        let Some(runtime) = self.runtime.take() else { return };
        let (done, wait) = std::sync::mpsc::channel();
        let tasks = self.tasks.clone();
        runtime.spawn(async move {
            tasks.wait().await;
            done.send(()).ok();
        });
        wait.recv_timeout(CLOSING).ok();
        runtime.shutdown_background();
    }
}

#[async_trait]
impl<M: Medium> Backend for Remote<M> {
    fn place(&self) -> &str {
        self.core.place()
    }

    fn seal_key(&self) -> &SealKey {
        &self.key
    }

    fn settings(&self) -> &Settings {
        &self.core.settings
    }

    async fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.run(|core| async move { core.snapshot().await }).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError> {
        self.run(move |core| async move { core.runs(limit).await }).await
    }

    async fn drift(&self) -> Result<DriftHistory, StateError> {
        self.run(|core| async move { core.drift().await }).await
    }

    async fn note_drift(&self, note: &DriftNote) -> Result<(), StateError> {
        let note = note.clone();
        self.run(move |core| async move { core.note_drift(&note).await }).await
    }

    async fn acquire(&self, request: &LockRequest) -> Result<Taken, StateError> {
        let request = request.clone();
        self.queue(|reply| Job::Acquire { request, reply }).await
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        self.run(|core| async move { core.holder().await }).await
    }

    async fn force_release(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.run(move |core| async move { core.force_release(&id).await }).await
    }

    async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError> {
        let fence = fence.clone();
        self.run(move |core| async move { core.renew(&fence).await }).await
    }

    async fn release(&self, fence: &Fence) -> Result<(), StateError> {
        let fence = fence.clone();
        self.queue(|reply| Job::Release { fence, reply }).await
    }

    fn release_in_background(&self, fence: &Fence) {
        if let Some(jobs) = &self.jobs {
            jobs.send(Job::Release { fence: fence.clone(), reply: oneshot::channel().0 }).ok();
        }
    }

    async fn write(&self, fence: &Fence, change: Change) -> Result<(), StateError> {
        let fence = fence.clone();
        self.queue(|reply| Job::Write { fence, change: Box::new(change), reply }).await
    }
}

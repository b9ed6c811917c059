//! The thread that uses SQLite. Requests that wait during a write share the next transaction and its sync.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::Failure;
use super::open::Opened;
use crate::StateError;
use crate::fault_injection;

/// The maximum number of requests that share a transaction. Each waits for all others.
const GROUP: usize = 1024;

/// A handle to the thread. Dropping it completes all requests and closes the database.
pub(crate) struct Writer {
    path: PathBuf,
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Read(Box<dyn Job>),
    Write(Box<dyn Job>),
}

impl Writer {
    /// Starts the thread for an open database.
    pub(crate) fn start(path: PathBuf, opened: Opened) -> Result<Self, StateError> {
        let (requests, inbox) = channel();
        let worker = Worker { opened };
        let thread = std::thread::Builder::new()
            .name("moorfast-state".into())
            .spawn(move || worker.serve(&inbox))
            .map_err(|error| StateError::io(&path, "starting the thread of the state", error))?;
        Ok(Self { path, requests: Some(requests), thread: Some(thread) })
    }

    /// Runs `work` on a consistent view of the database.
    pub(crate) async fn read<T, F>(&self, doing: &'static str, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.submit(Request::Read, doing, work).await
    }

    /// Runs `work` in a transaction and returns when it is durable.
    /// `work` runs a second time if a transaction shared with other requests failed.
    pub(crate) async fn write<T, F>(&self, doing: &'static str, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.submit(Request::Write, doing, work).await
    }

    /// Starts a write like [`Writer::write`] without waiting for the result.
    pub(crate) fn write_in_background<F>(&self, doing: &'static str, work: F)
    where
        F: FnMut(&Connection) -> Result<(), Failure> + Send + 'static,
    {
        drop(self.submit(Request::Write, doing, work));
    }

    fn submit<T, F>(
        &self,
        kind: fn(Box<dyn Job>) -> Request,
        doing: &'static str,
        work: F,
    ) -> impl Future<Output = Result<T, StateError>> + use<T, F>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call { path: self.path.clone(), doing, work, result: None, reply };
        if let Some(requests) = &self.requests {
            // If the thread ended, the reply is dropped with the request, which makes the answer an error.
            requests.send(kind(Box::new(call))).ok();
        }
        async { answer.await.unwrap_or(Err(StateError::Closed)) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A request of any type.
trait Job: Send {
    /// Runs the request and returns whether it succeeded.
    fn run(&mut self, db: &Connection) -> bool;
    /// Sends the answer. `rest` is the result of the transaction: begin and commit.
    fn answer(self: Box<Self>, rest: Result<(), &rusqlite::Error>);
}

struct Call<T, F> {
    path: PathBuf,
    doing: &'static str,
    work: F,
    result: Option<Result<T, StateError>>,
    reply: oneshot::Sender<Result<T, StateError>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, Failure> + Send,
{
    fn run(&mut self, db: &Connection) -> bool {
        let result = (self.work)(db).map_err(|failure| failure.at(&self.path, self.doing));
        self.result.insert(result).is_ok()
    }

    fn answer(self: Box<Self>, rest: Result<(), &rusqlite::Error>) {
        let answer = match (self.result, rest) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(StateError::sqlite(&self.path, self.doing, error)),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(StateError::Closed),
        };
        // The caller can be gone; the request is done anyway.
        self.reply.send(answer).ok();
    }
}

struct Worker {
    opened: Opened,
}

impl Worker {
    fn serve(&self, inbox: &Receiver<Request>) {
        while let Ok(request) = inbox.recv() {
            match request {
                Request::Read(job) => self.read(job),
                Request::Write(job) => self.write(job, inbox),
            }
        }
    }

    fn db(&self) -> &Connection {
        &self.opened.db
    }

    fn read(&self, mut job: Box<dyn Job>) {
        let begun = self.db().execute_batch("BEGIN");
        if begun.is_ok() {
            job.run(self.db());
        }
        self.rollback();
        job.answer(begun.as_ref().copied());
    }

    fn write(&self, first: Box<dyn Job>, inbox: &Receiver<Request>) {
        let begun = self.db().execute_batch("BEGIN IMMEDIATE");
        let (mut writes, mut reads) = (vec![first], Vec::new());
        for request in inbox.try_iter().take(GROUP) {
            match request {
                Request::Read(job) => reads.push(job),
                Request::Write(job) => writes.push(job),
            }
        }
        match begun {
            Ok(()) => self.finish(writes),
            Err(error) => writes.into_iter().for_each(|job| job.answer(Err(&error))),
        }
        reads.into_iter().for_each(|job| self.read(job));
    }

    /// Runs and commits a group in the open transaction. If this fails, each request gets its own transaction,
    /// so that a request that is too large for the disk does not affect the others.
    fn finish(&self, mut jobs: Vec<Box<dyn Job>>) {
        let done = self.attempt(&mut jobs);
        self.rollback();
        if done.is_ok() || jobs.len() == 1 {
            return jobs.into_iter().for_each(|job| job.answer(done.as_ref().copied()));
        }
        for job in jobs {
            match self.db().execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => self.finish(vec![job]),
                Err(error) => job.answer(Err(&error)),
            }
        }
    }

    fn attempt(&self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        for job in jobs {
            self.db().execute_batch("SAVEPOINT job")?;
            if !job.run(self.db()) {
                // Fails if SQLite rolled back the whole transaction, as it does on a full disk.
                self.db().execute_batch("ROLLBACK TO job")?;
            }
            self.db().execute_batch("RELEASE job")?;
        }
        fault_injection::around_commit(|| self.db().execute_batch("COMMIT"))
    }

    fn rollback(&self) {
        if !self.db().is_autocommit() {
            // If this fails, the next BEGIN fails too.
            self.db().execute_batch("ROLLBACK").ok();
        }
    }
}

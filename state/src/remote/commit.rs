//! The task that writes. Changes that wait during a write share the next write.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::core::{Core, pauses};
use super::head::Head;
use super::medium::{Medium, RequestError};
use super::rows::{Draft, merge};
use crate::change::Change;
use crate::lease::{Fence, Taken};
use crate::{LockRequest, StateError};

/// The maximum number of changes that share a write. Each waits for all others.
const GROUP: usize = 1024;

/// A request to the task.
pub(super) enum Job {
    Write { fence: Fence, change: Box<Change>, reply: Reply },
    Release { fence: Fence, reply: Reply },
    Acquire { request: LockRequest, reply: oneshot::Sender<Result<Taken, StateError>> },
}

pub(super) type Reply = oneshot::Sender<Result<(), StateError>>;

struct Write {
    fence: Fence,
    change: Box<Change>,
    reply: Reply,
}

/// An attempt to write a group: the id of the write, and the results if it was done.
struct Attempt {
    write: String,
    results: Vec<Result<(), StateError>>,
}

/// Serves requests until all senders are dropped.
pub(super) async fn serve<M: Medium>(core: Arc<Core<M>>, mut inbox: mpsc::UnboundedReceiver<Job>) {
    while let Some(first) = inbox.recv().await {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Write { fence, change, reply } => group.push(Write { fence, change, reply }),
                // Earlier writes belong to the lock that is released, so they are committed first.
                Job::Release { fence, reply } => {
                    commit(&core, std::mem::take(&mut group)).await;
                    reply.send(core.release(&fence).await).ok();
                }
                // A lock that was dropped earlier is released first.
                Job::Acquire { request, reply } => {
                    commit(&core, std::mem::take(&mut group)).await;
                    reply.send(core.acquire(&request).await).ok();
                }
            }
            if group.len() < GROUP {
                next = inbox.try_recv().ok();
            }
        }
        commit(&core, group).await;
    }
}

async fn commit<M: Medium>(core: &Core<M>, group: Vec<Write>) {
    if group.is_empty() {
        return;
    }
    let results = match ensure_keys(core, &group).await {
        Ok(()) => write(core, &group).await,
        Err(error) => fail(core, &group, &error),
    };
    if group.iter().any(|write| matches!(*write.change, Change::Replace(_))) {
        core.clean_up().await;
    }
    for (write, result) in group.into_iter().zip(results) {
        // The caller can be gone; the change is made anyway.
        write.reply.send(result).ok();
    }
}

/// Writes the keys of new states, before the states.
async fn ensure_keys<M: Medium>(core: &Core<M>, group: &[Write]) -> Result<(), RequestError> {
    for write in group {
        if let Change::Replace(contents) = &*write.change {
            core.ensure_key(&contents.key).await?;
        }
    }
    Ok(())
}

/// Makes the changes of a group in one write and returns a result for each.
async fn write<M: Medium>(core: &Core<M>, group: &[Write]) -> Vec<Result<(), StateError>> {
    let mut cache = core.cache.lock().await;
    let deadline = Instant::now() + core.settings.retry_for;
    let mut pauses = pauses();
    let mut attempts: Vec<Attempt> = Vec::new();
    // The cached state can be used: if it is outdated, the write is refused.
    let mut fresh = cache.is_none();
    loop {
        if fresh {
            match core.reload(&mut cache).await {
                Ok(true) => {}
                Ok(false) => return fail(core, group, &RequestError::deleted()),
                Err(error) => return fail(core, group, &error),
            }
        }
        let Some(loaded) = cache.as_mut() else { return fail(core, group, &RequestError::deleted()) };
        if let Some(done) = attempts.iter().position(|attempt| attempt.write == loaded.head.write) {
            return attempts.swap_remove(done).results;
        }
        let head = Head { write: Head::new_write(), ..loaded.head.clone() };
        let mut draft = Draft::new(core.place(), &loaded.rows, head);
        let results = make(core, group, &mut draft).await;
        let Draft { head, changed, .. } = draft;
        let any_change = results.iter().any(Result::is_ok);
        if !any_change && fresh {
            return results;
        }
        fresh = true;
        if !any_change {
            continue;
        }
        let done = core.medium.commit(loaded, &head, &changed).await;
        attempts.push(Attempt { write: head.write.clone(), results });
        match done {
            Ok(layout) => {
                merge(&mut loaded.rows, changed);
                (loaded.head, loaded.layout) = (head, layout);
                return attempts.pop().map(|attempt| attempt.results).unwrap_or_default();
            }
            Err(RequestError::Conflict) => {}
            Err(RequestError::NoAnswer(_)) if Instant::now() < deadline => pauses.next().await,
            Err(error) => {
                // Whether the write was done is unknown, so the cache is invalid.
                *cache = None;
                return fail(core, group, &error);
            }
        }
    }
}

fn fail<M: Medium>(core: &Core<M>, group: &[Write], error: &RequestError) -> Vec<Result<(), StateError>> {
    group.iter().map(|write| Err(error.clone().at(core.place(), write.change.doing()))).collect()
}

/// Makes each change whose lock is still valid.
async fn make<M: Medium>(core: &Core<M>, group: &[Write], draft: &mut Draft<'_>) -> Vec<Result<(), StateError>> {
    let mut results = Vec::with_capacity(group.len());
    for write in group {
        let result = if core.check(&write.fence, &draft.head) {
            draft.make(&write.change)
        } else {
            Err(core.lost(&write.fence).await)
        };
        results.push(result);
    }
    results
}

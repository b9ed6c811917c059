//! The one task that writes. What waits while it writes shares the next write.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::core::{Core, pauses};
use super::medium::{Head, Medium, Trouble};
use super::rows::{Draft, absorb};
use crate::change::Change;
use crate::lease::{Fence, Taken};
use crate::{LockRequest, StateError};

/// The most changes that share a write: each waits for all.
const GROUP: usize = 1024;

/// What the task is asked for.
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

/// What became of each change of a group, had the write with this id been done.
struct Attempt {
    write: String,
    results: Vec<Result<(), StateError>>,
}

/// Serves until nobody can ask any more.
pub(super) async fn serve<M: Medium>(core: Arc<Core<M>>, mut inbox: mpsc::UnboundedReceiver<Job>) {
    while let Some(first) = inbox.recv().await {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Write { fence, change, reply } => group.push(Write { fence, change, reply }),
                // In its turn: the writes before it belong to the lock that it gives back.
                Job::Release { fence, reply } => {
                    commit(&core, std::mem::take(&mut group)).await;
                    reply.send(core.release(&fence).await).ok();
                }
                // In its turn: a lock that was dropped before is given back first.
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
    let results = match lay_down_keys(core, &group).await {
        Ok(()) => write(core, &group).await,
        Err(trouble) => fail(core, &group, &trouble),
    };
    if group.iter().any(|write| matches!(*write.change, Change::Replace(_))) {
        core.tidy().await;
    }
    for (write, result) in group.into_iter().zip(results) {
        // Who asked may have gone; what was asked for is done all the same.
        write.reply.send(result).ok();
    }
}

/// A key comes before the state that it belongs to.
async fn lay_down_keys<M: Medium>(core: &Core<M>, group: &[Write]) -> Result<(), Trouble> {
    for write in group {
        if let Change::Replace(contents) = &*write.change {
            core.lay_down_key(&contents.key).await?;
        }
    }
    Ok(())
}

/// Makes the changes of a group in one write, and answers for each.
async fn write<M: Medium>(core: &Core<M>, group: &[Write]) -> Vec<Result<(), StateError>> {
    let mut cache = core.cache.lock().await;
    let deadline = Instant::now() + core.settings.patience;
    let mut pauses = pauses();
    let mut attempts: Vec<Attempt> = Vec::new();
    // What was read or written last may be believed: where it is not so any more, the write is refused.
    let mut fresh = cache.is_none();
    loop {
        if fresh {
            match core.reload(&mut cache).await {
                Ok(true) => {}
                Ok(false) => return fail(core, group, &Trouble::gone()),
                Err(trouble) => return fail(core, group, &trouble),
            }
        }
        let Some(loaded) = cache.as_mut() else { return fail(core, group, &Trouble::gone()) };
        if let Some(done) = attempts.iter().position(|attempt| attempt.write == loaded.head.write) {
            return attempts.swap_remove(done).results;
        }
        let head = Head { write: Head::new_write(), ..loaded.head.clone() };
        let mut draft = Draft::new(core.place(), &loaded.rows, head);
        let results = make(core, group, &mut draft).await;
        let Draft { head, changed, .. } = draft;
        let possible = results.iter().any(Result::is_ok);
        if !possible && fresh {
            return results;
        }
        fresh = true;
        if !possible {
            continue;
        }
        let done = core.medium.commit(loaded, &head, &changed).await;
        attempts.push(Attempt { write: head.write.clone(), results });
        match done {
            Ok(layout) => {
                absorb(&mut loaded.rows, changed);
                (loaded.head, loaded.layout) = (head, layout);
                return attempts.pop().map(|attempt| attempt.results).unwrap_or_default();
            }
            Err(Trouble::Conflict) => {}
            Err(Trouble::Unclear(_)) if Instant::now() < deadline => pauses.next().await,
            Err(trouble) => {
                // Whether it was done is not known, so what is known of the state is worth nothing.
                *cache = None;
                return fail(core, group, &trouble);
            }
        }
    }
}

fn fail<M: Medium>(core: &Core<M>, group: &[Write], trouble: &Trouble) -> Vec<Result<(), StateError>> {
    group.iter().map(|write| Err(trouble.clone().at(core.place(), write.change.doing()))).collect()
}

/// Makes each change that its lock allows.
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

//! The lock of a store on a server, and reading the state.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::head::Head;
use super::medium::{Loaded, Medium, RequestError, Version};
use super::rows::{self, Changed};
use crate::drift::DriftNote;
use crate::lease::{self, Fence, Lease, Taken};
use crate::settings::Settings;
use crate::{DriftHistory, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// The maximum number of attempts after conflicts with other processes.
const MAX_CONFLICTS: usize = 100;

/// The longest pause between two attempts at a server that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times()
    .with_jitter();

/// The data that all parts of a store on a server share.
pub(super) struct Core<M: Medium> {
    pub(super) medium: M,
    pub(super) settings: Settings,
    read_only: bool,
    /// The state as it was last read or written.
    pub(super) cache: Mutex<Option<Loaded<M::Layout>>>,
    /// The expiries of the locks that this process took, by their ids.
    expiries: std::sync::Mutex<BTreeMap<String, Timestamp>>,
}

impl<M: Medium> Core<M> {
    pub(super) fn new(medium: M, settings: Settings, read_only: bool) -> Self {
        Self { medium, settings, read_only, cache: Mutex::default(), expiries: Default::default() }
    }

    pub(super) fn place(&self) -> &str {
        self.medium.place()
    }

    /// Returns the key of the state; creates state and key if they do not exist.
    pub(super) async fn key_or_create(&self) -> Result<SealKey, StateError> {
        if let Some(key) = self.existing_key().await? {
            return Ok(key);
        }
        let doing = "creating the state";
        // The key is written first, so that no state exists without its key.
        let key = SealKey::generate();
        self.with_retries(doing, || self.medium.add_key(&key)).await?;
        let head = rows::new_head(&key);
        match self.medium.create(&head).await {
            Ok(()) => Ok(key),
            // Another process was faster, or the result is unknown: use the existing state.
            Err(RequestError::Conflict | RequestError::NoAnswer(_)) => {
                self.existing_key().await?.ok_or_else(|| self.gone(doing))
            }
            Err(error) => Err(error.at(self.place(), doing)),
        }
    }

    /// Returns the key of the state, or `None` if there is no state.
    pub(super) async fn existing_key(&self) -> Result<Option<SealKey>, StateError> {
        let mut cache = self.cache.lock().await;
        let mut checked = None;
        loop {
            let found = self.reload(&mut cache).await;
            found.map_err(|error| error.at(self.place(), "opening the state"))?;
            let Some(Loaded { head, .. }) = cache.as_ref() else { return Ok(None) };
            let keys = self.with_retries("reading the seal key", || self.medium.keys()).await?;
            if let Some(key) = keys.iter().find(|key| is_key_of(key, head)) {
                return Ok(Some(key.clone()));
            }
            // Another process can have replaced the state and its key between the two requests.
            if checked.replace(head.key_check.clone()).as_ref() == Some(&head.key_check) {
                let place = format!("of {}", self.place());
                let missing = keys.is_empty();
                return Err(if missing { StateError::KeyMissing { place } } else { StateError::KeyMismatch { place } });
            }
        }
    }

    /// Adds `key` to the keys beside the state unless it is one of them.
    pub(super) async fn ensure_key(&self, key: &SealKey) -> Result<(), RequestError> {
        let there = self.medium.keys().await?.iter().any(|known| known.as_bytes() == key.as_bytes());
        if there { Ok(()) } else { self.medium.add_key(key).await }
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot, StateError> {
        let cache = self.current("reading the state").await?;
        let loaded = cache.as_ref().ok_or_else(|| self.gone("reading the state"))?;
        rows::snapshot(self.place(), &loaded.head, &loaded.rows)
    }

    pub(super) async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError> {
        let cache = self.current("reading the history").await?;
        let loaded = cache.as_ref().ok_or_else(|| self.gone("reading the history"))?;
        rows::runs(self.place(), &loaded.rows, limit)
    }

    pub(super) async fn drift(&self) -> Result<DriftHistory, StateError> {
        Ok(self.drift_now("reading the history of drift").await?.0)
    }

    /// Adds an observation to the history of drift. Repeats this after a conflict with others, and if an answer was lost, which has no further
    /// effect.
    pub(super) async fn note_drift(&self, note: &DriftNote) -> Result<(), StateError> {
        let doing = "recording the drift";
        if self.read_only {
            return Err(StateError::ReadOnly { path: self.place().into(), doing });
        }
        let deadline = Instant::now() + self.settings.retry_for;
        let mut pauses = pauses();
        loop {
            let (history, version) = self.drift_now(doing).await?;
            let bytes = serde_json::to_vec(&history.with(note));
            let bytes = bytes.map_err(|error| RequestError::Refused(error.to_string()).at(self.place(), doing))?;
            match self.medium.set_drift(version.as_ref(), bytes).await {
                Ok(()) => return Ok(()),
                Err(RequestError::Conflict | RequestError::NoAnswer(_)) if Instant::now() < deadline => {
                    pauses.next().await
                }
                Err(error) => return Err(error.at(self.place(), doing)),
            }
        }
    }

    async fn drift_now(&self, doing: &'static str) -> Result<(DriftHistory, Option<Version>), StateError> {
        let (bytes, version) = self.with_retries(doing, || self.medium.drift()).await?;
        let history = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        let fault = |error| RequestError::Corrupt(format!("its history of drift cannot be read: {error}"));
        let history = history.map_err(|error| fault(error).at(self.place(), doing))?;
        Ok((history.unwrap_or_default(), version))
    }

    pub(super) async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        let (lease, _) = self.with_retries("reading the lock", || self.medium.lease()).await?;
        Ok(lease.filter(|lease| !lease.is_free(self.settings.now())).map(|lease| lease.info))
    }

    pub(super) async fn acquire(&self, request: &LockRequest) -> Result<Taken, StateError> {
        let doing = "taking the lock";
        if self.read_only {
            return Err(StateError::ReadOnly { path: self.place().into(), doing });
        }
        for _ in 0..MAX_CONFLICTS {
            let (found, version) = self.with_retries(doing, || self.medium.lease()).await?;
            if let Some(lease) = &found
                && !lease.is_free(self.settings.now())
            {
                return Err(StateError::Locked(Box::new(lease.info.clone())));
            }
            let epoch = self.head(doing).await?.epoch + 1;
            let lease = Lease::new(request, epoch, &self.settings);
            match self.medium.set_lease(version.as_ref(), Some(&lease)).await {
                Ok(()) => {}
                Err(RequestError::Conflict) => continue,
                // If the request was done, the next read finds this lease.
                Err(RequestError::NoAnswer(_)) if self.is_current_lease(&lease).await? => {}
                Err(RequestError::NoAnswer(_)) => continue,
                Err(error) => return Err(error.at(self.place(), doing)),
            }
            if !self.raise(epoch, Some(&lease.info.id), doing).await? {
                continue;
            }
            self.note_expiry(&lease.info.id, lease.info.expires);
            self.clean_up().await;
            return Ok(Taken { info: lease.info, instead_of: found.map(|lease| lease.info) });
        }
        Err(RequestError::Conflict.at(self.place(), doing))
    }

    pub(super) async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError> {
        let doing = "renewing the lock";
        for _ in 0..MAX_CONFLICTS {
            let (lease, version) = self.medium.lease().await.map_err(|error| error.at(self.place(), doing))?;
            let mut lease = lease::check_owned(lease, fence, self.settings.now())?;
            lease.renew(&self.settings);
            match self.medium.set_lease(version.as_ref(), Some(&lease)).await {
                Ok(()) => {
                    self.note_expiry(&fence.id, lease.info.expires);
                    return Ok(lease.info.expires);
                }
                Err(RequestError::Conflict) => {}
                Err(error) => return Err(error.at(self.place(), doing)),
            }
        }
        Err(RequestError::Conflict.at(self.place(), doing))
    }

    pub(super) async fn release(&self, fence: &Fence) -> Result<(), StateError> {
        self.expiries().remove(&fence.id);
        self.clear("releasing the lock", |lease| lease.is(fence)).await
    }

    pub(super) async fn force_release(&self, id: &str) -> Result<(), StateError> {
        let doing = "removing the lock";
        let (lease, _) = self.with_retries(doing, || self.medium.lease()).await?;
        let its_epoch = lease.as_ref().map_or(0, |lease| lease.info.epoch);
        lease::check_id(lease, id)?;
        // The head is changed first: if this is interrupted, only a lease remains, which expires.
        let head = self.head(doing).await?;
        // A holder that took the lease but has not raised the epoch yet must fail to do so.
        let epoch = if head.holder.as_deref() == Some(id) { head.epoch + 1 } else { its_epoch };
        self.raise(epoch, None, doing).await?;
        self.clear(doing, |lease| lease.info.id == id).await
    }

    /// Returns whether the lock of `fence` may write, according to the head and the recorded expiry.
    pub(super) fn check(&self, fence: &Fence, head: &Head) -> bool {
        let lasts = self.expiries().get(&fence.id).is_some_and(|expires| self.settings.now() < *expires);
        lasts && head.epoch == fence.epoch && head.holder.as_deref() == Some(&fence.id)
    }

    /// Returns the error for a lost lock.
    pub(super) async fn lost(&self, fence: &Fence) -> StateError {
        let lease = self.medium.lease().await.ok().and_then(|(lease, _)| lease);
        let by = lease.filter(|lease| !lease.is(fence)).map(|lease| Box::new(lease.info));
        StateError::LockLost { now_held_by: by }
    }

    /// Reads the state again if it changed. Returns false if there is no state.
    pub(super) async fn reload(&self, cache: &mut Option<Loaded<M::Layout>>) -> Result<bool, RequestError> {
        let deadline = Instant::now() + self.settings.retry_for;
        let mut pauses = pauses();
        loop {
            match self.medium.load(cache.take()).await {
                Ok(loaded) => {
                    *cache = loaded;
                    return Ok(cache.is_some());
                }
                Err(RequestError::NoAnswer(_)) if Instant::now() < deadline => pauses.next().await,
                Err(error) => return Err(error),
            }
        }
    }

    fn gone(&self, doing: &'static str) -> StateError {
        RequestError::deleted().at(self.place(), doing)
    }

    /// Repeats a request while the server does not answer, up to [`Settings::retry_for`].
    async fn with_retries<T, F>(&self, doing: &'static str, mut request: impl FnMut() -> F) -> Result<T, StateError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let deadline = Instant::now() + self.settings.retry_for;
        let mut pauses = pauses();
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(RequestError::NoAnswer(_)) if Instant::now() < deadline => pauses.next().await,
                Err(error) => return Err(error.at(self.place(), doing)),
            }
        }
    }

    async fn current(&self, doing: &'static str) -> Result<MutexGuard<'_, Option<Loaded<M::Layout>>>, StateError> {
        let mut cache = self.cache.lock().await;
        let found = self.reload(&mut cache).await.map_err(|error| error.at(self.place(), doing))?;
        if found { Ok(cache) } else { Err(self.gone(doing)) }
    }

    async fn head(&self, doing: &'static str) -> Result<Head, StateError> {
        let cache = self.current(doing).await?;
        cache.as_ref().map(|loaded| loaded.head.clone()).ok_or_else(|| self.gone(doing))
    }

    /// Writes `epoch` and a new holder to the head. Returns false if another process has written a later epoch.
    async fn raise(&self, epoch: u64, holder: Option<&str>, doing: &'static str) -> Result<bool, StateError> {
        let deadline = Instant::now() + self.settings.retry_for;
        let mut pauses = pauses();
        loop {
            let mut cache = self.current(doing).await?;
            let loaded = cache.as_mut().ok_or_else(|| self.gone(doing))?;
            // The answer to a successful write can be lost.
            if loaded.head.epoch == epoch && loaded.head.holder.as_deref() == holder {
                return Ok(true);
            }
            if loaded.head.epoch >= epoch {
                return Ok(false);
            }
            let head =
                Head { epoch, holder: holder.map(str::to_owned), write: Head::new_write(), ..loaded.head.clone() };
            match self.medium.commit(loaded, &head, &Changed::new()).await {
                Ok(layout) => {
                    loaded.head = head;
                    loaded.layout = layout;
                    return Ok(true);
                }
                Err(RequestError::Conflict) => {}
                Err(RequestError::NoAnswer(_)) if Instant::now() < deadline => pauses.next().await,
                Err(error) => return Err(error.at(self.place(), doing)),
            }
        }
    }

    async fn is_current_lease(&self, lease: &Lease) -> Result<bool, StateError> {
        let (found, _) = self.with_retries("taking the lock", || self.medium.lease()).await?;
        Ok(found.is_some_and(|found| found.info.id == lease.info.id))
    }

    /// Removes the lease if it matches.
    async fn clear(&self, doing: &'static str, matches: impl Fn(&Lease) -> bool) -> Result<(), StateError> {
        for _ in 0..MAX_CONFLICTS {
            let (lease, version) = self.with_retries(doing, || self.medium.lease()).await?;
            if !lease.as_ref().is_some_and(&matches) {
                return Ok(());
            }
            match self.medium.set_lease(version.as_ref(), None).await {
                Ok(()) => return Ok(()),
                Err(RequestError::Conflict | RequestError::NoAnswer(_)) => {}
                Err(error) => return Err(error.at(self.place(), doing)),
            }
        }
        Err(RequestError::Conflict.at(self.place(), doing))
    }

    /// Removes objects that earlier holders of the lock left behind, and keys of replaced states. Failures are ignored: the next holder of the
    /// lock tries again.
    pub(super) async fn clean_up(&self) {
        let cache = self.cache.lock().await;
        let Some(loaded) = cache.as_ref() else { return };
        self.medium.clean_up(loaded).await;
        let Ok(keys) = self.medium.keys().await else { return };
        for key in keys.iter().filter(|key| !is_key_of(key, &loaded.head)) {
            self.medium.remove_key(key).await.ok();
        }
    }

    fn note_expiry(&self, id: &str, expires: Timestamp) {
        self.expiries().insert(id.to_owned(), expires);
    }

    fn expiries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Timestamp>> {
        self.expiries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn is_key_of(key: &SealKey, head: &Head) -> bool {
    key.check(&head.lineage) == head.key_check
}

/// Increasing pauses between attempts. They are random, so that two processes that conflict do not do so again.
pub(super) struct Pauses(ExponentialBackoff);

pub(super) fn pauses() -> Pauses {
    Pauses(PAUSES.build())
}

impl Pauses {
    pub(super) async fn next(&mut self) {
        tokio::time::sleep(self.0.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

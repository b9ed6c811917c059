//! The lock and reading.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::medium::{Head, Loaded, Medium, Trouble, Version};
use super::rows::{self, Changed};
use crate::drift::DriftNote;
use crate::lease::{self, Fence, Lease, Taken};
use crate::settings::Settings;
use crate::{DriftHistory, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// How often a race with others is run again before it is an error: nobody loses that often.
const RACES: usize = 100;

/// The longest pause between two attempts at a server that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What all parts of a store on a server share.
pub(super) struct Core<M: Medium> {
    pub(super) medium: M,
    pub(super) settings: Settings,
    read_only: bool,
    /// The state as it was when it was last read or written.
    pub(super) cache: Mutex<Option<Loaded<M::Layout>>>,
    /// Until when the locks last that were taken here, by their ids.
    expiries: std::sync::Mutex<BTreeMap<String, Timestamp>>,
}

impl<M: Medium> Core<M> {
    pub(super) fn new(medium: M, settings: Settings, read_only: bool) -> Self {
        Self { medium, settings, read_only, cache: Mutex::default(), expiries: Default::default() }
    }

    pub(super) fn place(&self) -> &str {
        self.medium.place()
    }

    /// The key of the state, which is made where there is none.
    pub(super) async fn key_or_create(&self) -> Result<SealKey, StateError> {
        if let Some(key) = self.existing_key().await? {
            return Ok(key);
        }
        let doing = "making the state";
        // The key comes first: a state without its key never exists.
        let key = SealKey::generate();
        self.patiently(doing, || self.medium.add_key(&key)).await?;
        let head = rows::newborn(&key);
        match self.medium.create(&head).await {
            Ok(()) => Ok(key),
            // Somebody else was faster, or it is unknown whether we were: what is there now is the one.
            Err(Trouble::Conflict | Trouble::Unclear(_)) => self.existing_key().await?.ok_or_else(|| self.gone(doing)),
            Err(trouble) => Err(trouble.at(self.place(), doing)),
        }
    }

    /// The key of the state. None where there is no state.
    pub(super) async fn existing_key(&self) -> Result<Option<SealKey>, StateError> {
        let mut cache = self.cache.lock().await;
        let mut looked_for = None;
        loop {
            let found = self.reload(&mut cache).await;
            found.map_err(|trouble| trouble.at(self.place(), "opening the state"))?;
            let Some(Loaded { head, .. }) = cache.as_ref() else { return Ok(None) };
            let keys = self.patiently("reading the seal key", || self.medium.keys()).await?;
            if let Some(key) = keys.iter().find(|key| is_key_of(key, head)) {
                return Ok(Some(key.clone()));
            }
            // Somebody may have put another state with its key in the place between the two looks.
            if looked_for.replace(head.key_check.clone()).as_ref() == Some(&head.key_check) {
                let place = format!("of {}", self.place());
                let missing = keys.is_empty();
                return Err(if missing { StateError::KeyMissing { place } } else { StateError::KeyMismatch { place } });
            }
        }
    }

    /// Sees that `key` lies beside the state.
    pub(super) async fn lay_down_key(&self, key: &SealKey) -> Result<(), Trouble> {
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

    /// Adds a look to the history of drift. Where others did so at the same moment, after theirs; where an answer was lost, once more, which
    /// changes nothing.
    pub(super) async fn note_drift(&self, note: &DriftNote) -> Result<(), StateError> {
        let doing = "recording what drifted";
        if self.read_only {
            return Err(StateError::ReadOnly { path: self.place().into(), doing });
        }
        let deadline = Instant::now() + self.settings.patience;
        let mut pauses = pauses();
        loop {
            let (history, version) = self.drift_now(doing).await?;
            let bytes = serde_json::to_vec(&history.with(note));
            let bytes = bytes.map_err(|error| Trouble::Refused(error.to_string()).at(self.place(), doing))?;
            match self.medium.set_drift(version.as_ref(), bytes).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Conflict | Trouble::Unclear(_)) if Instant::now() < deadline => pauses.next().await,
                Err(trouble) => return Err(trouble.at(self.place(), doing)),
            }
        }
    }

    async fn drift_now(&self, doing: &'static str) -> Result<(DriftHistory, Option<Version>), StateError> {
        let (bytes, version) = self.patiently(doing, || self.medium.drift()).await?;
        let history = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        let fault = |error| Trouble::Corrupt(format!("its history of drift cannot be read: {error}"));
        let history = history.map_err(|error| fault(error).at(self.place(), doing))?;
        Ok((history.unwrap_or_default(), version))
    }

    pub(super) async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        let (lease, _) = self.patiently("reading the lock", || self.medium.lease()).await?;
        Ok(lease.filter(|lease| !lease.is_free(self.settings.now())).map(|lease| lease.info))
    }

    pub(super) async fn acquire(&self, request: &LockRequest) -> Result<Taken, StateError> {
        let doing = "taking the lock";
        if self.read_only {
            return Err(StateError::ReadOnly { path: self.place().into(), doing });
        }
        for _ in 0..RACES {
            let (found, version) = self.patiently(doing, || self.medium.lease()).await?;
            if let Some(lease) = &found
                && !lease.is_free(self.settings.now())
            {
                return Err(StateError::Locked(Box::new(lease.info.clone())));
            }
            let epoch = self.head(doing).await?.epoch + 1;
            let lease = Lease::new(request, epoch, &self.settings);
            match self.medium.set_lease(version.as_ref(), Some(&lease)).await {
                Ok(()) => {}
                Err(Trouble::Conflict) => continue,
                // Where it was done after all, the next look finds our own lease.
                Err(Trouble::Unclear(_)) if self.is_ours(&lease).await? => {}
                Err(Trouble::Unclear(_)) => continue,
                Err(trouble) => return Err(trouble.at(self.place(), doing)),
            }
            if !self.raise(epoch, Some(&lease.info.id), doing).await? {
                continue;
            }
            self.note_expiry(&lease.info.id, lease.info.expires);
            self.tidy().await;
            return Ok(Taken { info: lease.info, instead_of: found.map(|lease| lease.info) });
        }
        Err(Trouble::Conflict.at(self.place(), doing))
    }

    pub(super) async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError> {
        let doing = "renewing the lock";
        for _ in 0..RACES {
            let (lease, version) = self.medium.lease().await.map_err(|trouble| trouble.at(self.place(), doing))?;
            let mut lease = lease::own(lease, fence, self.settings.now())?;
            lease.renew(&self.settings);
            match self.medium.set_lease(version.as_ref(), Some(&lease)).await {
                Ok(()) => {
                    self.note_expiry(&fence.id, lease.info.expires);
                    return Ok(lease.info.expires);
                }
                Err(Trouble::Conflict) => {}
                Err(trouble) => return Err(trouble.at(self.place(), doing)),
            }
        }
        Err(Trouble::Conflict.at(self.place(), doing))
    }

    pub(super) async fn release(&self, fence: &Fence) -> Result<(), StateError> {
        self.expiries().remove(&fence.id);
        self.clear("giving back the lock", |lease| lease.is(fence)).await
    }

    pub(super) async fn force_release(&self, id: &str) -> Result<(), StateError> {
        let doing = "removing the lock";
        let (lease, _) = self.patiently(doing, || self.medium.lease()).await?;
        let its_epoch = lease.as_ref().map_or(0, |lease| lease.info.epoch);
        lease::named(lease, id)?;
        // The right to write goes first: where this is cut off, a lease stays behind that runs out.
        let head = self.head(doing).await?;
        // A holder that took the lease and did not come to raise the epoch yet finds that it is too late.
        let epoch = if head.holder.as_deref() == Some(id) { head.epoch + 1 } else { its_epoch };
        self.raise(epoch, None, doing).await?;
        self.clear(doing, |lease| lease.info.id == id).await
    }

    /// Whether the lock of `fence` may write, by what is known here.
    pub(super) fn check(&self, fence: &Fence, head: &Head) -> bool {
        let lasts = self.expiries().get(&fence.id).is_some_and(|expires| self.settings.now() < *expires);
        lasts && head.epoch == fence.epoch && head.holder.as_deref() == Some(&fence.id)
    }

    /// The error for who may not write any more.
    pub(super) async fn lost(&self, fence: &Fence) -> StateError {
        let lease = self.medium.lease().await.ok().and_then(|(lease, _)| lease);
        let by = lease.filter(|lease| !lease.is(fence)).map(|lease| Box::new(lease.info));
        StateError::LockLost { now_held_by: by }
    }

    /// Reads the state again where it changed. False where there is none.
    pub(super) async fn reload(&self, cache: &mut Option<Loaded<M::Layout>>) -> Result<bool, Trouble> {
        let deadline = Instant::now() + self.settings.patience;
        let mut pauses = pauses();
        loop {
            match self.medium.load(cache.take()).await {
                Ok(loaded) => {
                    *cache = loaded;
                    return Ok(cache.is_some());
                }
                Err(Trouble::Unclear(_)) if Instant::now() < deadline => pauses.next().await,
                Err(trouble) => return Err(trouble),
            }
        }
    }

    fn gone(&self, doing: &'static str) -> StateError {
        Trouble::gone().at(self.place(), doing)
    }

    /// Tries again while the server does not answer, as long as the settings say.
    async fn patiently<T, F>(&self, doing: &'static str, mut ask: impl FnMut() -> F) -> Result<T, StateError>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let deadline = Instant::now() + self.settings.patience;
        let mut pauses = pauses();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Unclear(_)) if Instant::now() < deadline => pauses.next().await,
                Err(trouble) => return Err(trouble.at(self.place(), doing)),
            }
        }
    }

    async fn current(&self, doing: &'static str) -> Result<MutexGuard<'_, Option<Loaded<M::Layout>>>, StateError> {
        let mut cache = self.cache.lock().await;
        let found = self.reload(&mut cache).await.map_err(|trouble| trouble.at(self.place(), doing))?;
        if found { Ok(cache) } else { Err(self.gone(doing)) }
    }

    async fn head(&self, doing: &'static str) -> Result<Head, StateError> {
        let cache = self.current(doing).await?;
        cache.as_ref().map(|loaded| loaded.head.clone()).ok_or_else(|| self.gone(doing))
    }

    /// Makes `epoch` that of the head, with a new holder. False where somebody has overtaken us meanwhile.
    async fn raise(&self, epoch: u64, holder: Option<&str>, doing: &'static str) -> Result<bool, StateError> {
        let deadline = Instant::now() + self.settings.patience;
        let mut pauses = pauses();
        loop {
            let mut cache = self.current(doing).await?;
            let loaded = cache.as_mut().ok_or_else(|| self.gone(doing))?;
            // An answer that was lost may have been a yes.
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
                Err(Trouble::Conflict) => {}
                Err(Trouble::Unclear(_)) if Instant::now() < deadline => pauses.next().await,
                Err(trouble) => return Err(trouble.at(self.place(), doing)),
            }
        }
    }

    async fn is_ours(&self, lease: &Lease) -> Result<bool, StateError> {
        let (found, _) = self.patiently("taking the lock", || self.medium.lease()).await?;
        Ok(found.is_some_and(|found| found.info.id == lease.info.id))
    }

    /// Removes the lease where it is the one that is meant.
    async fn clear(&self, doing: &'static str, meant: impl Fn(&Lease) -> bool) -> Result<(), StateError> {
        for _ in 0..RACES {
            let (lease, version) = self.patiently(doing, || self.medium.lease()).await?;
            if !lease.as_ref().is_some_and(&meant) {
                return Ok(());
            }
            match self.medium.set_lease(version.as_ref(), None).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Conflict | Trouble::Unclear(_)) => {}
                Err(trouble) => return Err(trouble.at(self.place(), doing)),
            }
        }
        Err(Trouble::Conflict.at(self.place(), doing))
    }

    /// Clears away what earlier holders of the lock left behind, and keys that are not the state's any more. What cannot be cleared away
    /// now is when the lock is taken the next time.
    pub(super) async fn tidy(&self) {
        let cache = self.cache.lock().await;
        let Some(loaded) = cache.as_ref() else { return };
        self.medium.tidy(loaded).await;
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

/// Pauses that grow.
pub(super) struct Pauses(Duration);

pub(super) fn pauses() -> Pauses {
    Pauses(Duration::from_millis(50))
}

impl Pauses {
    pub(super) async fn next(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

//! A state as objects: one head that every write replaces, and immutable shards.
//!
//! The head contains the data of the state as a whole, the names of the shards, and the rows that changed since the shards were written.
//! So a small write replaces one small object. When the head is too large, the shards of its rows are written again under new
//! names, and the next head refers to them. Before that head exists, no reader uses the new shards; after it, no reader needs the old ones.
//! Names are never reused, so a writer that was suspended cannot damage or remove objects in use.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::encoding::{decode, encode, pack, unpack};
use super::head::Head;
use super::medium::{Loaded, Medium, RequestError, Version};
use super::rows::{Changed, Key, Rows, merge};
use crate::SealKey;
use crate::fault_injection::around_request;
use crate::lease::Lease;

/// The format of the objects. A newer one is refused.
const FORMAT: u64 = 1;

/// The stored size of the head in bytes beyond which its rows are moved to shards.
const HEAD: usize = 48 * 1024;

/// The maximum stored size of an object in bytes: with base64 well below etcd's 1.5 MiB and a Secret's 1 MiB.
const OBJECT: usize = 512 * 1024;

/// The maximum size of an object from a server in bytes. moorfast writes no larger ones.
pub(crate) const LARGEST_ANSWER: usize = 16 * OBJECT;

/// The maximum number of shards, as a power of two.
const MOST_BITS: u32 = 12;

/// The number of objects that are read or written concurrently.
const PARALLEL: usize = 8;

/// The maximum number of attempts to read a state that changes meanwhile.
const READS: usize = 20;

/// A store of objects with conditional writes.
#[async_trait]
pub(crate) trait Bucket: Send + Sync + 'static {
    /// Returns the place of the state for messages.
    fn place(&self) -> &str;
    /// Returns the head and its version.
    async fn head(&self) -> Result<Option<(Vec<u8>, Version)>, RequestError>;
    /// Replaces the head if it still has this version, or creates it. Fails with [`RequestError::Conflict`] otherwise.
    async fn set_head(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, RequestError>;
    /// Returns the content of an object.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, RequestError>;
    /// Creates an object. Fails with [`RequestError::Conflict`] if the name exists.
    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), RequestError>;
    /// Deletes an object. Succeeds if it does not exist.
    async fn delete(&self, name: &str) -> Result<(), RequestError>;
    /// Returns the names of all objects of [`Bucket::create`].
    async fn list(&self) -> Result<Vec<String>, RequestError>;
    /// See [`Medium::lease`].
    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), RequestError>;
    /// See [`Medium::set_lease`].
    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), RequestError>;
    /// See [`Medium::drift`].
    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), RequestError>;
    /// See [`Medium::set_drift`].
    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), RequestError>;
    /// See [`Medium::keys`].
    async fn keys(&self) -> Result<Vec<SealKey>, RequestError>;
    /// See [`Medium::add_key`].
    async fn add_key(&self, key: &SealKey) -> Result<(), RequestError>;
    /// See [`Medium::remove_key`].
    async fn remove_key(&self, key: &SealKey) -> Result<(), RequestError>;
}

/// A new object: its name and its content.
type Object = (String, Vec<u8>);

/// A state as objects in a bucket.
pub(crate) struct Objects<B>(pub(crate) B);

/// Rows whose hashed keys begin with the same bits. They are stored in one object, or in several if a row is very large.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shard {
    objects: Vec<String>,
    bytes: usize,
}

/// The places of the rows.
pub(crate) struct Layout {
    version: Version,
    shards: Vec<Shard>,
    /// The rows in the head, which override those in the shards.
    recent: Changed,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    #[serde(flatten)]
    head: Head,
    /// Empty, or a power of two.
    shards: Vec<Shard>,
}

#[async_trait]
impl<B: Bucket> Medium for Objects<B> {
    type Layout = Layout;

    fn place(&self) -> &str {
        self.0.place()
    }

    async fn load(&self, known: Option<Loaded<Layout>>) -> Result<Option<Loaded<Layout>>, RequestError> {
        let mut known = known;
        let mut last = None;
        for _ in 0..READS {
            let Some((bytes, version)) = self.0.head().await? else { return Ok(None) };
            if let Some(known) = known.take_if(|known| known.layout.version == version) {
                return Ok(Some(known));
            }
            let (header, recent) = read_head(&bytes)?;
            if let Some(mut rows) = self.read(&header.shards).await? {
                merge(&mut rows, recent.clone());
                let layout = Layout { version, shards: header.shards, recent };
                return Ok(Some(Loaded { head: header.head, rows, layout }));
            }
            // If a shard was replaced meanwhile, the head was replaced too.
            if last.as_ref() == Some(&version) {
                return Err(RequestError::Corrupt("an object of its head is missing".into()));
            }
            last = Some(version);
        }
        Err(RequestError::NoAnswer("it changed faster than it could be read".into()))
    }

    async fn create(&self, head: &Head) -> Result<(), RequestError> {
        around_request(self.0.set_head(None, write_head(head, &[], &Changed::new())?)).await.map(drop)
    }

    async fn commit(&self, from: &Loaded<Layout>, head: &Head, changed: &Changed) -> Result<Layout, RequestError> {
        let layout = &from.layout;
        let mut recent = layout.recent.clone();
        recent.extend(changed.iter().map(|(key, body)| (key.clone(), body.clone())));
        let bytes = write_head(head, &layout.shards, &recent)?;
        if bytes.len() <= HEAD {
            let version = around_request(self.0.set_head(Some(&layout.version), bytes)).await?;
            return Ok(Layout { version, shards: layout.shards.clone(), recent });
        }
        let mut rows: BTreeMap<&Key, &str> = from.rows.iter().map(|(key, body)| (key, body.as_str())).collect();
        for (key, body) in changed {
            match body {
                Some(body) => drop(rows.insert(key, body)),
                None => drop(rows.remove(key)),
            }
        }
        let (shards, new) = reshard(&layout.shards, &rows, &recent, head.epoch)?;
        let names: Vec<String> = new.iter().map(|(name, _)| name.clone()).collect();
        self.create_all(new).await?;
        let bytes = write_head(head, &shards, &Changed::new())?;
        let version = match around_request(self.0.set_head(Some(&layout.version), bytes)).await {
            Ok(version) => version,
            Err(error) => {
                // If the head may refer to the new objects, they must not be deleted.
                if matches!(error, RequestError::Conflict | RequestError::Refused(_)) {
                    self.delete_all(names).await;
                }
                return Err(error);
            }
        };
        let kept: BTreeSet<&String> = shards.iter().flat_map(|shard| &shard.objects).collect();
        let old = layout.shards.iter().flat_map(|shard| &shard.objects).filter(|name| !kept.contains(name));
        self.delete_all(old.cloned().collect()).await;
        Ok(Layout { version, shards, recent: Changed::new() })
    }

    async fn clean_up(&self, now: &Loaded<Layout>) {
        let Ok(names) = self.0.list().await else { return };
        let used: BTreeSet<&String> = now.layout.shards.iter().flat_map(|shard| &shard.objects).collect();
        // No new head can refer to objects of an earlier epoch.
        let unused = |name: &String| !used.contains(name) && epoch_of(name).is_some_and(|epoch| epoch < now.head.epoch);
        self.delete_all(names.into_iter().filter(unused).collect()).await;
    }

    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), RequestError> {
        self.0.lease().await
    }

    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), RequestError> {
        around_request(self.0.set_lease(from, lease)).await
    }

    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), RequestError> {
        let (bytes, version) = self.0.drift().await?;
        let text = match bytes {
            // The format before compression.
            Some(bytes) if bytes.starts_with(b"{") => Some(bytes),
            Some(bytes) => Some(unpack(&bytes).map_err(RequestError::Corrupt)?.into_bytes()),
            None => None,
        };
        Ok((text, version))
    }

    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), RequestError> {
        let packed = pack(&bytes).map_err(RequestError::Refused)?;
        around_request(self.0.set_drift(from, packed)).await
    }

    async fn keys(&self) -> Result<Vec<SealKey>, RequestError> {
        self.0.keys().await
    }

    async fn add_key(&self, key: &SealKey) -> Result<(), RequestError> {
        around_request(self.0.add_key(key)).await
    }

    async fn remove_key(&self, key: &SealKey) -> Result<(), RequestError> {
        around_request(self.0.remove_key(key)).await
    }
}

impl<B: Bucket> Objects<B> {
    /// Returns the rows of all shards, or `None` if an object no longer exists.
    async fn read(&self, shards: &[Shard]) -> Result<Option<Rows>, RequestError> {
        let names: Vec<String> = shards.iter().flat_map(|shard| shard.objects.iter().cloned()).collect();
        let objects = stream::iter(names).map(|name| async move { self.0.get(&name).await });
        let objects: Vec<Option<Vec<u8>>> = objects.buffered(PARALLEL).try_collect().await?;
        let mut objects = objects.into_iter();
        let mut rows = Rows::new();
        for shard in shards.iter().filter(|shard| !shard.objects.is_empty()) {
            let parts: Option<Vec<Vec<u8>>> = objects.by_ref().take(shard.objects.len()).collect();
            let Some(parts) = parts else { return Ok(None) };
            let (_, changed) = decode(&parts.concat()).map_err(RequestError::Corrupt)?;
            merge(&mut rows, changed);
        }
        Ok(Some(rows))
    }

    async fn create_all(&self, objects: Vec<Object>) -> Result<(), RequestError> {
        let create = |(name, bytes): Object| async move {
            match around_request(self.0.create(&name, bytes)).await {
                // The name is unique, so an earlier request of this process succeeded and its answer was lost.
                Err(RequestError::Conflict) => Ok(()),
                other => other,
            }
        };
        stream::iter(objects).map(create).buffer_unordered(PARALLEL).try_collect().await
    }

    /// Deletes unused objects. Failures are ignored: the next holder of the lock tries again.
    async fn delete_all(&self, names: Vec<String>) {
        let deleted = stream::iter(names).map(|name| async move { around_request(self.0.delete(&name)).await.ok() });
        deleted.buffer_unordered(PARALLEL).for_each(|_| async {}).await;
    }
}

/// Returns the shards for `rows`, of which `recent` are not in `old` yet, and the new objects to create.
fn reshard(
    old: &[Shard],
    rows: &BTreeMap<&Key, &str>,
    recent: &Changed,
    epoch: u64,
) -> Result<(Vec<Shard>, Vec<Object>), RequestError> {
    let bits = old.len().max(1).ilog2();
    let touched: BTreeSet<usize> = recent.keys().map(|key| shard_of(key, bits)).collect();
    let unchanged = |shard: usize| !old.is_empty() && !touched.contains(&shard);
    let mut encoded = encode_shards(rows, bits, unchanged)?;
    let kept = |shard: &usize| old.get(*shard).filter(|_| unchanged(*shard));
    let kept_bytes: usize = (0..1 << bits).filter_map(|shard| kept(&shard)).map(|shard| shard.bytes).sum();
    let all: usize = kept_bytes + encoded.values().map(Vec::len).sum::<usize>();
    // Shards are half full on average, so that few are too large by chance.
    let wanted = (all * 2 / OBJECT).max(1).next_power_of_two().ilog2().min(MOST_BITS);
    let mut shards: Vec<Shard> = (0..1 << bits).map(|shard| kept(&shard).cloned().unwrap_or_default()).collect();
    if wanted > bits {
        encoded = encode_shards(rows, wanted, |_| false)?;
        shards = vec![Shard::default(); 1 << wanted];
    }
    let mut objects = Vec::new();
    for (at, bytes) in encoded {
        let parts: Vec<Object> = bytes.chunks(OBJECT).map(|part| (new_name(epoch), part.to_vec())).collect();
        shards[at] = Shard { objects: parts.iter().map(|(name, _)| name.clone()).collect(), bytes: bytes.len() };
        objects.extend(parts);
    }
    Ok((shards, objects))
}

/// Encodes each shard that has rows, except those to skip.
fn encode_shards(
    rows: &BTreeMap<&Key, &str>,
    bits: u32,
    skip: impl Fn(usize) -> bool,
) -> Result<BTreeMap<usize, Vec<u8>>, RequestError> {
    let mut members: BTreeMap<usize, Vec<(&Key, Option<&str>)>> = BTreeMap::new();
    for (key, body) in rows {
        let shard = shard_of(key, bits);
        if !skip(shard) {
            members.entry(shard).or_default().push((key, Some(body)));
        }
    }
    let encoded =
        members.into_iter().map(|(shard, rows)| Ok((shard, encode("", rows).map_err(RequestError::Refused)?)));
    encoded.collect()
}

/// Returns the first bits of the hash of a key.
fn shard_of((table, key): &Key, bits: u32) -> usize {
    let hash = blake3::Hasher::new().update(table.name().as_bytes()).update(b" ").update(key.as_bytes()).finalize();
    let [a, b, ..] = *hash.as_bytes();
    usize::from(u16::from_be_bytes([a, b])) >> (16 - bits)
}

/// Generates a name. Its epoch shows whether its writer can still be active.
fn new_name(epoch: u64) -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{epoch}-{}", &random[..16])
}

fn epoch_of(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

fn read_head(bytes: &[u8]) -> Result<(Header, Changed), RequestError> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let (header, recent) = decode(bytes).map_err(RequestError::Corrupt)?;
    let fault = |error: serde_json::Error| RequestError::Corrupt(format!("its head cannot be read: {error}"));
    let Format { format } = serde_json::from_str(&header).map_err(fault)?;
    if format > FORMAT {
        return Err(RequestError::Newer { found: format, supported: FORMAT });
    }
    Ok((serde_json::from_str(&header).map_err(fault)?, recent))
}

fn write_head(head: &Head, shards: &[Shard], recent: &Changed) -> Result<Vec<u8>, RequestError> {
    let header = Header { format: FORMAT, head: head.clone(), shards: shards.to_vec() };
    let header = serde_json::to_string(&header).map_err(|error| RequestError::Refused(error.to_string()))?;
    encode(&header, recent.iter().map(|(key, body)| (key, body.as_deref()))).map_err(RequestError::Refused)
}

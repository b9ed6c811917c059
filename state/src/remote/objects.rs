//! A state as objects: one head that is replaced with every write, and shards that are written once and never change.
//!
//! The head holds what is known of the state as a whole, the names of the shards and the rows that changed since they were written.
//! A small write so replaces one small object. When the head has grown, the shards that its rows belong to are written anew under new
//! names, and the next head names these: until it is there nobody has seen them, and from then on nobody needs the old ones.
//! As names are never used twice, a writer that was stopped in the middle can neither damage nor remove what others rely on.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::encoding::{decode, encode, pack, unpack};
use super::medium::{FORMAT, Head, Loaded, Medium, Trouble, Version};
use super::rows::{Changed, Key, Rows, absorb};
use crate::SealKey;
use crate::lease::Lease;
use crate::seam::around_request;

/// How large the head may grow before its rows go into shards, in bytes as stored.
const HEAD: usize = 48 * 1024;

/// How large an object may be, in bytes as stored: with base64 well below etcd's 1.5 MiB and a Secret's 1 MiB.
const OBJECT: usize = 512 * 1024;

/// How large an object may be that a server returns, in bytes. What is larger was not written by us.
pub(crate) const LARGEST_ANSWER: usize = 16 * OBJECT;

/// The most shards, as a power of two.
const MOST_BITS: u32 = 12;

/// How many objects are read or written at once.
const PARALLEL: usize = 8;

/// How often a reader begins again because the state changed under it.
const READS: usize = 20;

/// A place for objects, of which one can be replaced conditionally.
#[async_trait]
pub(crate) trait Bucket: Send + Sync + 'static {
    /// Where it is, for messages.
    fn place(&self) -> &str;
    /// The head and its version.
    async fn head(&self) -> Result<Option<(Vec<u8>, Version)>, Trouble>;
    /// Replaces the head where it still has this version, or makes it where there is none; [`Trouble::Conflict`] otherwise.
    async fn set_head(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, Trouble>;
    /// An object's bytes.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Trouble>;
    /// Makes an object. [`Trouble::Conflict`] where there is one of that name.
    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), Trouble>;
    /// Removes an object; that there is none is as good.
    async fn delete(&self, name: &str) -> Result<(), Trouble>;
    /// The names of all objects that were created.
    async fn list(&self) -> Result<Vec<String>, Trouble>;
    /// See [`Medium::lease`].
    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), Trouble>;
    /// See [`Medium::set_lease`].
    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), Trouble>;
    /// See [`Medium::drift`].
    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), Trouble>;
    /// See [`Medium::set_drift`].
    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), Trouble>;
    /// See [`Medium::keys`].
    async fn keys(&self) -> Result<Vec<SealKey>, Trouble>;
    /// See [`Medium::add_key`].
    async fn add_key(&self, key: &SealKey) -> Result<(), Trouble>;
    /// See [`Medium::remove_key`].
    async fn remove_key(&self, key: &SealKey) -> Result<(), Trouble>;
}

/// An object that is to be made: its name and its bytes.
type Object = (String, Vec<u8>);

/// A state as objects in a bucket.
pub(crate) struct Objects<B>(pub(crate) B);

/// Rows whose keys have the same first bits of their hash. Their bytes lie in one object or, where a row is very large, in several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shard {
    objects: Vec<String>,
    bytes: usize,
}

/// Where the rows are.
pub(crate) struct Layout {
    version: Version,
    shards: Vec<Shard>,
    /// The rows that lie in the head, over those in the shards.
    recent: Changed,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    #[serde(flatten)]
    head: Head,
    /// As many as a power of two; none where there is nothing in them.
    shards: Vec<Shard>,
}

#[async_trait]
impl<B: Bucket> Medium for Objects<B> {
    type Layout = Layout;

    fn place(&self) -> &str {
        self.0.place()
    }

    async fn load(&self, known: Option<Loaded<Layout>>) -> Result<Option<Loaded<Layout>>, Trouble> {
        let mut known = known;
        let mut last = None;
        for _ in 0..READS {
            let Some((bytes, version)) = self.0.head().await? else { return Ok(None) };
            if let Some(known) = known.take_if(|known| known.layout.version == version) {
                return Ok(Some(known));
            }
            let (header, recent) = read_head(&bytes)?;
            if let Some(mut rows) = self.read(&header.shards).await? {
                absorb(&mut rows, recent.clone());
                let layout = Layout { version, shards: header.shards, recent };
                return Ok(Some(Loaded { head: header.head, rows, layout }));
            }
            // A shard that is gone was replaced meanwhile, and then the head was as well.
            if last.as_ref() == Some(&version) {
                return Err(Trouble::Corrupt("an object that its head names is missing".into()));
            }
            last = Some(version);
        }
        Err(Trouble::Unclear("it changed faster than it could be read".into()))
    }

    async fn create(&self, head: &Head) -> Result<(), Trouble> {
        around_request(self.0.set_head(None, write_head(head, &[], &Changed::new())?)).await.map(drop)
    }

    async fn commit(&self, from: &Loaded<Layout>, head: &Head, changed: &Changed) -> Result<Layout, Trouble> {
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
            Err(trouble) => {
                // Where it is unclear whether the head names them, they must stay.
                if matches!(trouble, Trouble::Conflict | Trouble::Refused(_)) {
                    self.delete_all(names).await;
                }
                return Err(trouble);
            }
        };
        let kept: BTreeSet<&String> = shards.iter().flat_map(|shard| &shard.objects).collect();
        let old = layout.shards.iter().flat_map(|shard| &shard.objects).filter(|name| !kept.contains(name));
        self.delete_all(old.cloned().collect()).await;
        Ok(Layout { version, shards, recent: Changed::new() })
    }

    async fn tidy(&self, now: &Loaded<Layout>) {
        let Ok(names) = self.0.list().await else { return };
        let used: BTreeSet<&String> = now.layout.shards.iter().flat_map(|shard| &shard.objects).collect();
        // Of an earlier epoch: no head that names them can come any more.
        let left = |name: &String| !used.contains(name) && epoch_of(name).is_some_and(|epoch| epoch < now.head.epoch);
        self.delete_all(names.into_iter().filter(left).collect()).await;
    }

    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), Trouble> {
        self.0.lease().await
    }

    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), Trouble> {
        around_request(self.0.set_lease(from, lease)).await
    }

    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), Trouble> {
        let (bytes, version) = self.0.drift().await?;
        let text = match bytes {
            // As it was written before it was packed.
            Some(bytes) if bytes.starts_with(b"{") => Some(bytes),
            Some(bytes) => Some(unpack(&bytes).map_err(Trouble::Corrupt)?.into_bytes()),
            None => None,
        };
        Ok((text, version))
    }

    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), Trouble> {
        let packed = pack(&bytes).map_err(Trouble::Refused)?;
        around_request(self.0.set_drift(from, packed)).await
    }

    async fn keys(&self) -> Result<Vec<SealKey>, Trouble> {
        self.0.keys().await
    }

    async fn add_key(&self, key: &SealKey) -> Result<(), Trouble> {
        around_request(self.0.add_key(key)).await
    }

    async fn remove_key(&self, key: &SealKey) -> Result<(), Trouble> {
        around_request(self.0.remove_key(key)).await
    }
}

impl<B: Bucket> Objects<B> {
    /// The rows of all shards. None where an object is not there any more.
    async fn read(&self, shards: &[Shard]) -> Result<Option<Rows>, Trouble> {
        let names: Vec<String> = shards.iter().flat_map(|shard| shard.objects.iter().cloned()).collect();
        let objects = stream::iter(names).map(|name| async move { self.0.get(&name).await });
        let objects: Vec<Option<Vec<u8>>> = objects.buffered(PARALLEL).try_collect().await?;
        let mut objects = objects.into_iter();
        let mut rows = Rows::new();
        for shard in shards.iter().filter(|shard| !shard.objects.is_empty()) {
            let parts: Option<Vec<Vec<u8>>> = objects.by_ref().take(shard.objects.len()).collect();
            let Some(parts) = parts else { return Ok(None) };
            let (_, changed) = decode(&parts.concat()).map_err(Trouble::Corrupt)?;
            absorb(&mut rows, changed);
        }
        Ok(Some(rows))
    }

    async fn create_all(&self, objects: Vec<Object>) -> Result<(), Trouble> {
        let create = |(name, bytes): Object| async move {
            match around_request(self.0.create(&name, bytes)).await {
                // The name is ours alone, so it is we who were there before: an answer was lost.
                Err(Trouble::Conflict) => Ok(()),
                other => other,
            }
        };
        stream::iter(objects).map(create).buffer_unordered(PARALLEL).try_collect().await
    }

    /// Removes objects that nobody needs any more. One that stays is removed when the lock is taken the next time.
    async fn delete_all(&self, names: Vec<String>) {
        let deleted = stream::iter(names).map(|name| async move { around_request(self.0.delete(&name)).await.ok() });
        deleted.buffer_unordered(PARALLEL).for_each(|_| async {}).await;
    }
}

/// The shards for `rows`, of which `recent` are not in `old` yet, and the objects that have to be made for that.
fn reshard(
    old: &[Shard],
    rows: &BTreeMap<&Key, &str>,
    recent: &Changed,
    epoch: u64,
) -> Result<(Vec<Shard>, Vec<Object>), Trouble> {
    let bits = old.len().max(1).ilog2();
    let touched: BTreeSet<usize> = recent.keys().map(|key| shard_of(key, bits)).collect();
    let whole = |shard: usize| !old.is_empty() && !touched.contains(&shard);
    let mut encoded = encode_shards(rows, bits, whole)?;
    let kept = |shard: &usize| old.get(*shard).filter(|_| whole(*shard));
    let kept_bytes: usize = (0..1 << bits).filter_map(|shard| kept(&shard)).map(|shard| shard.bytes).sum();
    let all: usize = kept_bytes + encoded.values().map(Vec::len).sum::<usize>();
    // Half full on the average, so that chance seldom makes one too large.
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

/// The bytes of each shard that holds something and is not to be left alone.
fn encode_shards(
    rows: &BTreeMap<&Key, &str>,
    bits: u32,
    leave: impl Fn(usize) -> bool,
) -> Result<BTreeMap<usize, Vec<u8>>, Trouble> {
    let mut members: BTreeMap<usize, Vec<(&Key, Option<&str>)>> = BTreeMap::new();
    for (key, body) in rows {
        let shard = shard_of(key, bits);
        if !leave(shard) {
            members.entry(shard).or_default().push((key, Some(body)));
        }
    }
    let encoded = members.into_iter().map(|(shard, rows)| Ok((shard, encode("", rows).map_err(Trouble::Refused)?)));
    encoded.collect()
}

/// The first bits of the hash of a key.
fn shard_of((table, key): &Key, bits: u32) -> usize {
    let hash = blake3::Hasher::new().update(table.name().as_bytes()).update(b" ").update(key.as_bytes()).finalize();
    let [a, b, ..] = *hash.as_bytes();
    usize::from(u16::from_be_bytes([a, b])) >> (16 - bits)
}

/// A name that was never used: the epoch tells whether its writer may still come back.
fn new_name(epoch: u64) -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{epoch}-{}", &random[..16])
}

fn epoch_of(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

fn read_head(bytes: &[u8]) -> Result<(Header, Changed), Trouble> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let (header, recent) = decode(bytes).map_err(Trouble::Corrupt)?;
    let fault = |error: serde_json::Error| Trouble::Corrupt(format!("its head cannot be read: {error}"));
    let Format { format } = serde_json::from_str(&header).map_err(fault)?;
    if format > FORMAT {
        return Err(Trouble::Newer(format));
    }
    Ok((serde_json::from_str(&header).map_err(fault)?, recent))
}

fn write_head(head: &Head, shards: &[Shard], recent: &Changed) -> Result<Vec<u8>, Trouble> {
    let header = Header { format: FORMAT, head: head.clone(), shards: shards.to_vec() };
    let header = serde_json::to_string(&header).map_err(|error| Trouble::Refused(error.to_string()))?;
    encode(&header, recent.iter().map(|(key, body)| (key, body.as_deref()))).map_err(Trouble::Refused)
}

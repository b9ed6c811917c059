//! The state in a bucket of S3 or of a server that speaks it: objects, of which head and lock are replaced conditionally.

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
    UpdateVersion,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::bounded;
use crate::lease::Lease;
use crate::remote::objects::{Bucket, LARGEST_ANSWER, Objects};
use crate::remote::{Trouble, Version, chain};
use crate::{SealKey, StateError};

/// How long a connection may take to come about, an answer, and a list of any number of answers.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
const LIST: Duration = Duration::from_secs(60);

/// How many objects are listed at most. A state has some thousands.
const LISTED: usize = 100_000;

/// Where in which bucket the state is. Credentials are taken from the environment, as `AWS_ACCESS_KEY_ID` and its like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket, which must exist.
    pub bucket: String,
    /// What the names of the objects begin with. Another prefix is another state.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// The region. None means `$AWS_REGION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The URL of the server, where it is not Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

fn default_prefix() -> String {
    "moorfast".to_owned()
}

/// The objects of one state.
pub(crate) struct Folder {
    place: String,
    store: AmazonS3,
    prefix: Path,
}

impl Folder {
    /// The client for `config`; nothing is asked yet.
    pub(crate) async fn connect(config: S3) -> Result<Objects<Self>, StateError> {
        // Somebody else in this process may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(ANSWER).with_allow_http(plain);
        // Whether to ask again is decided where it is known what an answer that was lost means.
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: ANSWER };
        let mut builder =
            AmazonS3Builder::from_env().with_bucket_name(&config.bucket).with_client_options(client).with_retry(retry);
        #[cfg(test)]
        {
            let (id, secret) = crate::tests::S3_KEY;
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder
            .build()
            .map_err(|error| StateError::Config(format!("the s3 backend cannot be used: {}", chain(&error))))?;
        let place = format!("the state s3://{}/{}", config.bucket, config.prefix);
        Ok(Objects(Self { place, store, prefix: Path::from(config.prefix) }))
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    fn shard(&self, name: &str) -> Path {
        self.path(&format!("shards/{name}"))
    }

    async fn read(&self, path: &Path) -> Result<Option<(Vec<u8>, Version)>, Trouble> {
        let found = match self.store.get(path).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(trouble)?,
        };
        let version = found.meta.e_tag.clone().ok_or_else(no_version)?;
        let mut parts = found.into_stream();
        let mut bytes = Vec::new();
        while let Some(part) = parts.try_next().await.map_err(trouble)? {
            if bytes.len() + part.len() > LARGEST_ANSWER {
                let limit = bounded::size(LARGEST_ANSWER as u64);
                return Err(Trouble::Corrupt(format!("the object {path} is larger than {limit}")));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Some((bytes, version)))
    }

    /// The objects whose names begin with `prefix`.
    async fn list_all(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, Trouble> {
        let pages = self.store.list(Some(prefix)).take(LISTED).try_collect();
        let silent = |_| Trouble::Unclear(format!("no whole list within {} s", LIST.as_secs()));
        timeout(LIST, pages).await.map_err(silent)?.map_err(trouble)
    }

    async fn remove(&self, path: &Path) -> Result<(), Trouble> {
        match self.store.delete(path).await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other.map_err(trouble),
        }
    }

    /// The keys, each with its place.
    async fn placed_keys(&self) -> Result<Vec<(Path, SealKey)>, Trouble> {
        let mut keys = Vec::new();
        for object in self.list_all(&self.path("keys")).await? {
            let bytes = self.read(&object.location).await?.map(|(bytes, _)| Zeroizing::new(bytes));
            let key = bytes.and_then(|bytes| Some(SealKey::from_bytes(bytes.as_slice().try_into().ok()?)));
            keys.extend(key.map(|key| (object.location, key)));
        }
        Ok(keys)
    }

    /// Replaces an object where it is of this version, or makes it where there is none.
    async fn write(&self, path: &Path, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, Trouble> {
        let mode = match from {
            Some(version) => PutMode::Update(UpdateVersion { e_tag: Some(version.clone()), version: None }),
            None => PutMode::Create,
        };
        match self.store.put_opts(path, bytes.into(), PutOptions::from(mode)).await {
            // What was there a moment ago is gone; where the bucket is missing, reading says so.
            Err(Error::NotFound { .. }) if from.is_some() => Err(Trouble::Conflict),
            other => other.map_err(trouble)?.e_tag.ok_or_else(no_version),
        }
    }
}

#[async_trait]
impl Bucket for Folder {
    fn place(&self) -> &str {
        &self.place
    }

    async fn head(&self) -> Result<Option<(Vec<u8>, Version)>, Trouble> {
        self.read(&self.path("head")).await
    }

    async fn set_head(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, Trouble> {
        self.write(&self.path("head"), from, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        Ok(self.read(&self.shard(name)).await?.map(|(bytes, _)| bytes))
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), Trouble> {
        self.write(&self.shard(name), None, bytes).await.map(drop)
    }

    async fn delete(&self, name: &str) -> Result<(), Trouble> {
        self.remove(&self.shard(name)).await
    }

    async fn list(&self) -> Result<Vec<String>, Trouble> {
        let found = self.list_all(&self.path("shards")).await?;
        Ok(found.into_iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), Trouble> {
        let Some((bytes, version)) = self.read(&self.path("lock")).await? else { return Ok((None, None)) };
        let lease = serde_json::from_slice(&bytes)
            .map_err(|error| Trouble::Corrupt(format!("its lock cannot be read: {error}")))?;
        Ok((lease, Some(version)))
    }

    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), Trouble> {
        let bytes = serde_json::to_vec(&lease).map_err(|error| Trouble::Refused(error.to_string()))?;
        self.write(&self.path("lock"), from, bytes).await.map(drop)
    }

    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), Trouble> {
        Ok(self.read(&self.path("drift")).await?.unzip())
    }

    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), Trouble> {
        self.write(&self.path("drift"), from, bytes).await.map(drop)
    }

    async fn keys(&self) -> Result<Vec<SealKey>, Trouble> {
        Ok(self.placed_keys().await?.into_iter().map(|(_, key)| key).collect())
    }

    async fn add_key(&self, key: &SealKey) -> Result<(), Trouble> {
        let path = self.path(&format!("keys/{}", Uuid::new_v4().simple()));
        self.write(&path, None, key.as_bytes().to_vec()).await.map(drop)
    }

    async fn remove_key(&self, key: &SealKey) -> Result<(), Trouble> {
        for (path, _) in self.placed_keys().await?.into_iter().filter(|(_, known)| known.as_bytes() == key.as_bytes()) {
            self.remove(&path).await?;
        }
        Ok(())
    }
}

fn no_version() -> Trouble {
    Trouble::Refused("the server gives objects no ETag, without which nothing can be replaced safely".into())
}

fn trouble(error: Error) -> Trouble {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => Trouble::Conflict,
        Error::Generic { .. } => {
            let text = chain(&error);
            // The library tells the status in words only.
            if text.contains("400 Bad Request") { Trouble::Refused(text) } else { Trouble::Unclear(text) }
        }
        other => Trouble::Refused(chain(&other)),
    }
}

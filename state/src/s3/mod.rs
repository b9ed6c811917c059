//! The state in a bucket of S3 or a compatible server: objects, with conditional writes for head and lock.

mod http_client;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
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

use self::http_client::{ANSWER, Connector, web_page};
use crate::bounded;
use crate::lease::Lease;
use crate::remote::objects::{Bucket, LARGEST_ANSWER, Objects};
use crate::remote::{RequestError, Version, element, error_chain};
use crate::{EnvironmentName, SealKey, StateError};

/// The limit for a list in several answers.
const LIST: Duration = Duration::from_secs(60);

/// The maximum number of listed objects. A state has at most some thousands.
const LISTED: usize = 100_000;

/// The location of a state in a bucket. Credentials come from the environment (`AWS_ACCESS_KEY_ID` and others).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket, which must exist.
    pub bucket: String,
    /// The prefix of the object names. Another prefix is another state.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// The region. Default: `$AWS_REGION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The URL of the server, for services other than Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The environment. Its name is a part of the object names, so that each environment has a state of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
}

impl S3 {
    /// Returns the prefix of all objects of the state: `PREFIX`, or `PREFIX/environments/ENVIRONMENT`.
    fn state_prefix(&self) -> String {
        match &self.environment {
            Some(environment) => format!("{}/environments/{environment}", self.prefix),
            None => self.prefix.clone(),
        }
    }
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
    /// Returns a client for `config` without sending a request.
    pub(crate) async fn connect(config: S3) -> Result<Objects<Self>, StateError> {
        // Fails if a provider is already installed in this process, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new().with_allow_http(plain);
        // No retries here: the caller decides, because it knows what a lost answer means.
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: ANSWER };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.bucket)
            .with_http_connector(Connector)
            .with_client_options(client)
            .with_retry(retry);
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
            .map_err(|error| StateError::Config(format!("the s3 backend cannot be used: {}", error_chain(&error))))?;
        let prefix = config.state_prefix();
        let place = format!("the state s3://{}/{prefix}", config.bucket);
        Ok(Objects(Self { place, store, prefix: Path::from(prefix) }))
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    fn shard(&self, name: &str) -> Path {
        self.path(&format!("shards/{name}"))
    }

    async fn read(&self, path: &Path) -> Result<Option<(Vec<u8>, Version)>, RequestError> {
        let found = match self.store.get(path).await {
            Err(error) if is_missing(&error) => return Ok(None),
            other => other.map_err(request_error)?,
        };
        if found.meta.size > LARGEST_ANSWER as u64 {
            let limit = bounded::size(LARGEST_ANSWER as u64);
            return Err(RequestError::Corrupt(format!("the object {path} is larger than {limit}")));
        }
        let version = found.meta.e_tag.clone();
        let bytes = found.bytes().await.map_err(request_error)?.to_vec();
        if is_web_page(&bytes) {
            return Err(RequestError::NoAnswer(web_page(StatusCode::OK)));
        }
        let version = version.ok_or_else(no_version)?;
        Ok(Some((bytes, version)))
    }

    /// Returns the objects with this prefix.
    async fn list_all(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, RequestError> {
        let pages = self.store.list(Some(prefix)).take(LISTED).try_collect();
        let too_slow = |_| RequestError::NoAnswer(format!("no complete list within {} s", LIST.as_secs()));
        timeout(LIST, pages).await.map_err(too_slow)?.map_err(request_error)
    }

    async fn remove(&self, path: &Path) -> Result<(), RequestError> {
        match self.store.delete(path).await {
            Err(error) if is_missing(&error) => Ok(()),
            other => other.map_err(request_error),
        }
    }

    /// Returns the keys with their paths.
    async fn keys_with_paths(&self) -> Result<Vec<(Path, SealKey)>, RequestError> {
        let mut keys = Vec::new();
        for object in self.list_all(&self.path("keys")).await? {
            let bytes = self.read(&object.location).await?.map(|(bytes, _)| Zeroizing::new(bytes));
            let key = bytes.and_then(|bytes| Some(SealKey::from_bytes(bytes.as_slice().try_into().ok()?)));
            keys.extend(key.map(|key| (object.location, key)));
        }
        Ok(keys)
    }

    /// Replaces an object if it has this version, or creates it.
    async fn write(&self, path: &Path, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, RequestError> {
        let mode = match from {
            Some(version) => PutMode::Update(UpdateVersion { e_tag: Some(version.clone()), version: None }),
            None => PutMode::Create,
        };
        let written = self.store.put_opts(path, bytes.into(), PutOptions::from(mode)).await;
        written.map_err(request_error)?.e_tag.ok_or_else(no_version)
    }
}

/// Whether the store answered that the object does not exist. The 404 of a gateway before the store is not such an answer, and that of a missing bucket neither.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && element(&error_chain(error), "Code") == Some("NoSuchKey")
}

/// Whether the object is a web page without a content type. A gateway before the store sends one instead of the object, so it is no damage of the state.
fn is_web_page(bytes: &[u8]) -> bool {
    let begins =
        |tag: &str| bytes.trim_ascii_start().get(..tag.len()).is_some_and(|b| b.eq_ignore_ascii_case(tag.as_bytes()));
    begins("<!doctype html") || begins("<html")
}

#[async_trait]
impl Bucket for Folder {
    fn place(&self) -> &str {
        &self.place
    }

    async fn head(&self) -> Result<Option<(Vec<u8>, Version)>, RequestError> {
        self.read(&self.path("head")).await
    }

    async fn set_head(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, RequestError> {
        self.write(&self.path("head"), from, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, RequestError> {
        Ok(self.read(&self.shard(name)).await?.map(|(bytes, _)| bytes))
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), RequestError> {
        self.write(&self.shard(name), None, bytes).await.map(drop)
    }

    async fn delete(&self, name: &str) -> Result<(), RequestError> {
        self.remove(&self.shard(name)).await
    }

    async fn list(&self) -> Result<Vec<String>, RequestError> {
        let found = self.list_all(&self.path("shards")).await?;
        Ok(found.into_iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), RequestError> {
        let Some((bytes, version)) = self.read(&self.path("lock")).await? else { return Ok((None, None)) };
        let lease = serde_json::from_slice(&bytes)
            .map_err(|error| RequestError::Corrupt(format!("its lock cannot be read: {error}")))?;
        Ok((lease, Some(version)))
    }

    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), RequestError> {
        let bytes = serde_json::to_vec(&lease).map_err(|error| RequestError::Refused(error.to_string()))?;
        self.write(&self.path("lock"), from, bytes).await.map(drop)
    }

    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), RequestError> {
        Ok(self.read(&self.path("drift")).await?.unzip())
    }

    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), RequestError> {
        self.write(&self.path("drift"), from, bytes).await.map(drop)
    }

    async fn keys(&self) -> Result<Vec<SealKey>, RequestError> {
        Ok(self.keys_with_paths().await?.into_iter().map(|(_, key)| key).collect())
    }

    async fn add_key(&self, key: &SealKey) -> Result<(), RequestError> {
        let path = self.path(&format!("keys/{}", Uuid::new_v4().simple()));
        self.write(&path, None, key.as_bytes().to_vec()).await.map(drop)
    }

    async fn remove_key(&self, key: &SealKey) -> Result<(), RequestError> {
        for (path, _) in
            self.keys_with_paths().await?.into_iter().filter(|(_, known)| known.as_bytes() == key.as_bytes())
        {
            self.remove(&path).await?;
        }
        Ok(())
    }
}

fn no_version() -> RequestError {
    RequestError::Refused("the server returns no ETag, which conditional writes need".into())
}

fn request_error(error: Error) -> RequestError {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => RequestError::Conflict,
        Error::Generic { .. } => {
            let text = error_chain(&error);
            // The library reports the status only in its text.
            if text.contains("400 Bad Request") { RequestError::Refused(text) } else { RequestError::NoAnswer(text) }
        }
        Error::NotFound { .. } if element(&error_chain(&error), "Code").is_none() => {
            RequestError::NoAnswer("the server answers 404, but not as a store of objects does".into())
        }
        other => RequestError::Refused(error_chain(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_is_no_object() {
        for page in ["<html>", "<!DOCTYPE html><title>SSO", "\n <!doctype HTML>"] {
            assert!(is_web_page(page.as_bytes()), "{page}");
        }
        for object in [&b"\x1f\x8b\x08"[..], b"{\"id\":1}", b"", b"<htm"] {
            assert!(!is_web_page(object), "{object:?}");
        }
    }
}

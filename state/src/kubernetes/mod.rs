//! The state in a cluster: Secrets for its content, a Lease for its lock.

mod connect;

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::connect::NOT_AN_API_SERVER;
use crate::lease::Lease;
use crate::remote::objects::{Bucket, Objects};
use crate::remote::{RequestError, Version, error_chain};
use crate::{SealKey, StateError};

pub use self::connect::Kubernetes;

/// The type of the Secrets with the state.
const STATE: &str = "moorfast.dev/state";
/// The type of the Secret with the seal key.
const KEY: &str = "moorfast.dev/key";
/// The label with the name of the state.
const NAME: &str = "moorfast.dev/name";
/// The label with the purpose of an object.
const PART: &str = "moorfast.dev/part";
/// The annotation of the Lease with the data that has no field.
const LOCK: &str = "moorfast.dev/lock";
/// The only entry in a Secret of the state.
const DATA: &str = "state";

/// The objects of one state in one namespace: Secret NAME is its head, NAME-EPOCH-… are its shards, NAME-key has the seal key, NAME-drift the history of drift,
/// and Lease NAME is the lock.
pub(crate) struct Cluster {
    place: String,
    name: String,
    secrets: Api<Secret>,
    leases: Api<LeaseObject>,
}

impl Cluster {
    /// Returns a client for `config` without sending a request.
    pub(crate) async fn connect(config: Kubernetes) -> Result<Objects<Self>, StateError> {
        let (client, namespace) = config.client().await?;
        let secrets = Api::namespaced(client.clone(), &namespace);
        let leases = Api::namespaced(client, &namespace);
        let name = config.state_name();
        let place = format!("the state {namespace}/{name} in the cluster");
        Ok(Objects(Self { place, name, secrets, leases }))
    }

    fn meta(&self, name: String, part: &str) -> ObjectMeta {
        let labels = [("app.kubernetes.io/managed-by", "moorfast"), (NAME, &self.name), (PART, part)];
        let labels: BTreeMap<_, _> = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() }
    }

    fn secret(&self, name: String, part: &str, bytes: Vec<u8>) -> Secret {
        Secret {
            metadata: self.meta(name, part),
            type_: Some(STATE.into()),
            data: Some([(DATA.to_owned(), ByteString(bytes))].into()),
            ..Secret::default()
        }
    }

    /// Returns the content of a Secret and its version.
    async fn find(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>, RequestError> {
        let Some(found) = self.secrets.get_opt(name).await.map_err(request_error)? else { return Ok(None) };
        let version = version(&found.metadata)?;
        Ok(Some((data(found)?, version)))
    }

    /// Replaces a Secret if it has this version, or creates it.
    async fn set(&self, mut secret: Secret, from: Option<&Version>) -> Result<Version, RequestError> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        secret.metadata.resource_version = from.cloned();
        let done = match from {
            Some(_) => self.secrets.replace(&name, &PostParams::default(), &secret).await,
            None => self.secrets.create(&PostParams::default(), &secret).await,
        };
        version(&done.map_err(request_error)?.metadata)
    }

    fn object(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    fn drift_name(&self) -> String {
        format!("{}-drift", self.name)
    }

    fn key_name(&self) -> String {
        format!("{}-key", self.name)
    }
}

#[async_trait]
impl Bucket for Cluster {
    fn place(&self) -> &str {
        &self.place
    }

    async fn head(&self) -> Result<Option<(Vec<u8>, Version)>, RequestError> {
        self.find(&self.name).await
    }

    async fn set_head(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<Version, RequestError> {
        self.set(self.secret(self.name.clone(), "head", bytes), from).await
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, RequestError> {
        self.secrets.get_opt(&self.object(name)).await.map_err(request_error)?.map(data).transpose()
    }

    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<(), RequestError> {
        let secret = Secret { immutable: Some(true), ..self.secret(self.object(name), "shard", bytes) };
        self.secrets.create(&PostParams::default(), &secret).await.map(drop).map_err(request_error)
    }

    async fn delete(&self, name: &str) -> Result<(), RequestError> {
        match self.secrets.delete(&self.object(name), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(drop).map_err(request_error),
        }
    }

    async fn list(&self) -> Result<Vec<String>, RequestError> {
        let wanted = ListParams::default().labels(&format!("{NAME}={},{PART}=shard", self.name));
        let found = self.secrets.list_metadata(&wanted).await.map_err(request_error)?;
        let prefix = format!("{}-", self.name);
        let names = found.items.into_iter().filter_map(|secret| secret.metadata.name);
        Ok(names.filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned())).collect())
    }

    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), RequestError> {
        let Some(found) = self.leases.get_opt(&self.name).await.map_err(request_error)? else {
            return Ok((None, None));
        };
        let version = version(&found.metadata)?;
        let text = found.metadata.annotations.and_then(|mut annotations| annotations.remove(LOCK));
        let lease = text.map(|text| serde_json::from_str(&text)).transpose();
        let lease = lease.map_err(|error| RequestError::Corrupt(format!("its Lease cannot be read: {error}")))?;
        Ok((lease, Some(version)))
    }

    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), RequestError> {
        let mut object = LeaseObject { metadata: self.meta(self.name.clone(), "lock"), spec: lease.map(spec) };
        object.metadata.resource_version = from.cloned();
        if let Some(lease) = lease {
            let text = serde_json::to_string(lease).map_err(|error| RequestError::Refused(error.to_string()))?;
            object.metadata.annotations = Some([(LOCK.to_owned(), text)].into());
        }
        let done = match from {
            Some(_) => self.leases.replace(&self.name, &PostParams::default(), &object).await,
            None => self.leases.create(&PostParams::default(), &object).await,
        };
        done.map(drop).map_err(request_error)
    }

    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), RequestError> {
        Ok(self.find(&self.drift_name()).await?.unzip())
    }

    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), RequestError> {
        self.set(self.secret(self.drift_name(), "drift", bytes), from).await.map(drop)
    }

    async fn keys(&self) -> Result<Vec<SealKey>, RequestError> {
        let found = self.secrets.get_opt(&self.key_name()).await.map_err(request_error)?;
        let entries = found.and_then(|secret| secret.data).unwrap_or_default();
        Ok(entries.into_values().filter_map(|bytes| Some(SealKey::from_bytes(bytes_of(bytes)?))).collect())
    }

    async fn add_key(&self, key: &SealKey) -> Result<(), RequestError> {
        let name = self.key_name();
        let entry = (format!("key-{}", Uuid::new_v4().simple()), ByteString(key.as_bytes().to_vec()));
        let Some(mut found) = self.secrets.get_opt(&name).await.map_err(request_error)? else {
            let metadata = self.meta(name, "key");
            let data = Some([entry].into());
            let secret = Secret { metadata, type_: Some(KEY.into()), data, ..Secret::default() };
            return self.secrets.create(&PostParams::default(), &secret).await.map(drop).map_err(key_error);
        };
        found.data.get_or_insert_default().extend([entry]);
        self.secrets.replace(&name, &PostParams::default(), &found).await.map(drop).map_err(key_error)
    }

    async fn remove_key(&self, key: &SealKey) -> Result<(), RequestError> {
        let name = self.key_name();
        let Some(mut found) = self.secrets.get_opt(&name).await.map_err(request_error)? else { return Ok(()) };
        let entries = found.data.get_or_insert_default();
        entries.retain(|_, bytes| bytes.0 != key.as_bytes());
        self.secrets.replace(&name, &PostParams::default(), &found).await.map(drop).map_err(key_error)
    }
}

/// Converts the error of a write to the Secret of the keys. A conflict must be repeated, because both changes must be made.
fn key_error(error: kube::Error) -> RequestError {
    match request_error(error) {
        RequestError::Conflict => RequestError::NoAnswer("another process changed the Secret of the key".into()),
        other => other,
    }
}

fn bytes_of(bytes: ByteString) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(bytes.0);
    bytes.as_slice().try_into().ok()
}

/// Returns the lock in the standard fields, so that `kubectl get leases` shows the holder.
fn spec(lease: &Lease) -> LeaseSpec {
    let info = &lease.info;
    let lasts = info.expires.duration_since(Timestamp::now()).as_secs().clamp(1, i64::from(i32::MAX));
    LeaseSpec {
        holder_identity: Some(format!("{}@{}: {} {}", info.who, info.host, info.operation, info.id)),
        acquire_time: Some(MicroTime(info.since)),
        renew_time: Some(MicroTime(Timestamp::now())),
        lease_duration_seconds: i32::try_from(lasts).ok(),
        lease_transitions: i32::try_from(info.epoch).ok(),
        ..LeaseSpec::default()
    }
}

fn version(meta: &ObjectMeta) -> Result<Version, RequestError> {
    meta.resource_version.clone().ok_or_else(|| RequestError::Corrupt("an object has no resourceVersion".into()))
}

fn data(secret: Secret) -> Result<Vec<u8>, RequestError> {
    let name = secret.metadata.name.unwrap_or_default();
    if secret.type_.as_deref() != Some(STATE) {
        return Err(RequestError::Refused(format!(
            "the Secret {name} exists but does not belong to moorfast; choose another name"
        )));
    }
    let bytes = secret.data.and_then(|mut data| data.remove(DATA));
    bytes.map(|bytes| bytes.0).ok_or_else(|| RequestError::Corrupt(format!("the Secret {name} has no `{DATA}`")))
}

fn request_error(error: kube::Error) -> RequestError {
    match error {
        kube::Error::Api(status) if status.code == 409 => RequestError::Conflict,
        // Repeating a request that is too large does not help.
        kube::Error::Api(status) if status.message.contains("too large") => RequestError::Refused(status.message),
        kube::Error::Api(status) if status.code == 429 || status.code >= 500 => RequestError::NoAnswer(status.message),
        kube::Error::Api(status) => RequestError::Refused(status.message),
        error @ (kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_)) => {
            RequestError::NoAnswer(error_chain(&error))
        }
        kube::Error::SerdeError(error) => RequestError::NoAnswer(format!("{NOT_AN_API_SERVER}: {error}")),
        error => RequestError::Refused(error_chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_something_else_is_no_refusal() {
        for answer in ["<html>log in</html>", "", r#"{"kind":"Banana"}"#] {
            let error = serde_json::from_str::<Secret>(answer).unwrap_err();
            let error = request_error(kube::Error::SerdeError(error));
            assert!(matches!(error, RequestError::NoAnswer(why) if why.contains("not from an API server")), "{answer}");
        }
    }
}

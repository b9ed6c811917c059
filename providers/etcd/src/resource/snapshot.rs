//! The resource type `etcd_snapshot`: a snapshot of the data in a file of this machine.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, TargetKind,
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::time::Instant;

use super::{Reading, Resource};
use crate::attributes::attributes;
use crate::cluster::{Cluster, View};

/// The resource type `etcd_snapshot`.
pub(crate) struct SnapshotType;

/// The computed attributes.
const COMPUTED: [&str; 3] = ["path", "size", "sha256"];
/// The length of the checksum at the end of a snapshot.
const CHECKSUM: usize = 32;

#[async_trait]
impl Resource for SnapshotType {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A snapshot of the data of an etcd cluster, in a file of the machine where moorfast runs. Resources with `depends_on` of it change only after the snapshot was saved. A new one is \
             taken if `triggers` or `directory` changes, or if the file is missing. Older files and the files of a destroyed resource are kept. The file contains all Secrets of a Kubernetes \
             cluster, unless the API server encrypts them. The guide on etcd explains how to restore it.",
            [
                Attribute::required(
                    "directory",
                    Kind::String,
                    "Directory of the files, relative to the manifest. It is created with mode 0700, each file `etcd-TIME.db` with mode 0600.",
                ),
                Attribute::optional(
                    "triggers",
                    Kind::map(Kind::String),
                    "Values whose change takes a new snapshot, such as the version that is about to be installed.",
                ),
                Attribute::computed("path", Kind::String, "Path of the file, relative to the manifest."),
                Attribute::computed("size", Kind::Integer, "Size of the file in bytes."),
                Attribute::computed("sha256", Kind::String, "SHA-256 of the file in hexadecimal digits."),
            ],
        );
        Declaration { name: "etcd_snapshot", target_kind: TargetKind::Provider, schema }
    }

    /// Returns `None`: the path contains the time, so only the address identifies the latest snapshot.
    fn identity(&self, _: &Attributes) -> Option<String> {
        None
    }

    fn needs_view(&self) -> bool {
        false
    }

    fn read(&self, cluster: &Cluster, _: &Result<View, String>, request: &ReadRequest) -> Reading {
        let Some(record) = &request.recorded else { return Ok(None) };
        let recorded = recorded_values(&record.attributes);
        let Some(path) = recorded.text("path") else { return Ok(None) };
        let size = match fs::metadata(cluster.context.file(path)?) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ProviderError::io(format!("cannot read {path}"), &error)),
        };
        let mut found = recorded.clone();
        found.insert("size".to_owned(), Value::from(i64::try_from(size).unwrap_or(i64::MAX)));
        Ok(Some(Observed { attributes: found, private: Json::Null }))
    }

    fn plan(&self, _: &Cluster, _: &Result<View, String>, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let mut planned: Attributes =
            request.desired.clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        let observed = request.observed.as_ref().map(|observed| &observed.attributes);
        let is_same = |observed: &&Attributes| {
            let now = |name: &str| observed.get(name).filter(|value| !value.is_null());
            let recorded = request.recorded.as_ref().map(|record| recorded_values(&record.attributes));
            let is_whole = recorded.is_none_or(|recorded| recorded.get("size") == observed.get("size"));
            is_whole && ["directory", "triggers"].iter().all(|name| now(name) == planned.get(name))
        };
        if let Some(observed) = observed.filter(is_same) {
            return Ok(Proposal::new(ProposedAction::NoOp, observed.clone()));
        }
        planned.extend(COMPUTED.map(|name| (name.to_owned(), Value::Unknown)));
        let action = if observed.is_some() { ProposedAction::Update } else { ProposedAction::Create };
        Ok(Proposal::new(action, planned))
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation, _: Instant) -> Result<Applied, ProviderError> {
        let (OperationAction::Create(desired) | OperationAction::Update(desired)) = &operation.action else {
            // A snapshot may be the last copy of the data.
            return Ok(Applied::default());
        };
        let view = cluster.view().await?.map_err(|reasons| {
            ProviderError::new(Class::Unreachable, "no member of the etcd cluster answers").detail([reasons])
        })?;
        let directory = desired.text("directory").unwrap_or_default();
        let mut saved = Saved::new(&cluster.context.file(directory)?, directory)?;
        cluster.api().await?.snapshot(&view.url, |part| saved.add(part)).await?;
        let mut applied: Attributes = desired.clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        applied.extend(saved.complete(directory, &cluster.context.file(directory)?)?);
        Ok(Applied { attributes: applied, ..Applied::default() })
    }
}

/// A snapshot that is being written.
struct Saved {
    file: NamedTempFile,
    size: usize,
    all: Sha256,
    /// The digest of all but the last bytes, which are the checksum if the snapshot is complete.
    data: Sha256,
    last: Vec<u8>,
}

impl Saved {
    fn new(folder: &Path, directory: &str) -> Result<Self, ProviderError> {
        let failed = |error| ProviderError::io(format!("cannot write to {directory}"), &error).attribute("directory");
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let only_me = Permissions::from_mode(0o600);
        let file =
            tempfile::Builder::new().prefix(".etcd-").permissions(only_me).tempfile_in(folder).map_err(failed)?;
        Ok(Self { file, size: 0, all: Sha256::new(), data: Sha256::new(), last: Vec::new() })
    }

    /// Writes a part as the gateway sends it.
    fn add(&mut self, part: &Json) -> Result<(), ProviderError> {
        let failed = |reason: &str| ProviderError::new(Class::Failed, format!("cannot save the snapshot: {reason}"));
        if let Some(message) = part["error"]["message"].as_str() {
            return Err(failed(&message.chars().take(200).collect::<String>()));
        }
        // The last part has no data.
        let blob = part["result"]["blob"].as_str().unwrap_or_default();
        let blob = STANDARD.decode(blob).map_err(|_| failed("a part of it is damaged"))?;
        self.file.write_all(&blob).map_err(|error| ProviderError::io("cannot save the snapshot", &error))?;
        self.size += blob.len();
        self.all.update(&blob);
        self.last.extend_from_slice(&blob);
        let data = self.last.len().saturating_sub(CHECKSUM);
        self.data.update(&self.last[..data]);
        self.last.drain(..data);
        Ok(())
    }

    /// Gives the complete file its name, and returns the computed attributes.
    fn complete(self, directory: &str, folder: &Path) -> Result<Attributes, ProviderError> {
        if self.data.finalize().as_slice() != self.last {
            let summary = "the snapshot is not complete: its checksum does not match";
            return Err(ProviderError::new(Class::Failed, summary).help("apply again"));
        }
        let failed = |error| ProviderError::io(format!("cannot write to {directory}"), &error);
        self.file.as_file().sync_all().map_err(failed)?;
        let name = format!("etcd-{}.db", Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ"));
        self.file.persist_noclobber(folder.join(&name)).map_err(|error| failed(error.error))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let sha256: String = self.all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(attributes([
            ("path", format!("{}/{name}", directory.trim_end_matches('/')).into()),
            ("size", Value::from(i64::try_from(self.size).unwrap_or(i64::MAX))),
            ("sha256", sha256.into()),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn save(folder: &Path, parts: &[&[u8]]) -> Result<Attributes, ProviderError> {
        let mut saved = Saved::new(folder, "backup")?;
        for part in parts {
            saved.add(&json!({ "result": { "blob": STANDARD.encode(part) } }))?;
        }
        saved.complete("backup", folder)
    }

    #[test]
    fn a_snapshot_is_saved_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("backup");
        let checksum = Sha256::digest(b"the data");
        let saved = save(&folder, &[b"the", b" data", &checksum[..7], &checksum[7..], b""]).unwrap();
        assert_eq!(saved["size"], Value::from(40));
        let files = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let [file] = &files()[..] else { panic!("one file is expected") };
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(saved.text("path").unwrap().ends_with(file.file_name().unwrap().to_str().unwrap()));
        for broken in [&[&b"the data"[..], &checksum[..31]][..], &[b"other data", &checksum[..]], &[]] {
            assert_eq!(
                save(&folder, broken).unwrap_err().summary,
                "the snapshot is not complete: its checksum does not match"
            );
        }
        assert_eq!(files().len(), 1);
        let mut saved = Saved::new(&folder, "backup").unwrap();
        let error = saved.add(&json!({ "error": { "message": "no leader" } })).unwrap_err();
        assert_eq!(error.summary, "cannot save the snapshot: no leader");
    }
}

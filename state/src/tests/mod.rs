//! Tests of the whole crate: histories, contention, crashes, and failing disks.

mod bed;
mod child;
mod contention;
mod crash;
mod disk;
mod drift;
mod gateway;
mod group;
mod history;
mod kubernetes;
mod laws;
mod opening;
mod postgres;
mod s3;
mod whole;

pub(crate) use s3::KEY as S3_KEY;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::{Digest, Intent, Lock, LockRequest, Record, Store};

/// A record whose attributes hold `value`.
pub(crate) fn record(address: &str, value: u64) -> Record {
    Record {
        address: address.into(),
        resource_type: "ssh_file".into(),
        provider: "ssh".into(),
        target: "gpu01".into(),
        identity: format!("/etc/{address}"),
        attributes: json!({ "value": value }).as_object().unwrap().clone(),
        dependencies: Vec::new(),
        triggers: BTreeMap::new(),
        private: serde_json::Value::Null,
        prevent_destroy: false,
        incomplete: false,
        pending: Vec::new(),
        machine: None,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// A record of at least this size.
fn large(address: &str, kib: usize) -> Record {
    Record {
        attributes: json!({ "content": "x".repeat(kib * 1024) }).as_object().unwrap().clone(),
        ..record(address, 0)
    }
}

/// A record of at least this size that cannot be packed.
fn noisy(address: &str, kib: usize) -> Record {
    let mut noise = vec![0; kib * 512];
    blake3::Hasher::new().update(address.as_bytes()).finalize_xof().fill(&mut noise);
    let content: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
    Record { attributes: json!({ "content": content }).as_object().unwrap().clone(), ..record(address, 0) }
}

/// A record that depends on others and remembers their digests.
fn dependant(address: &str, on: &[String]) -> Record {
    Record {
        dependencies: on.to_vec(),
        triggers: on.iter().map(|address| (address.clone(), Digest::of(address.as_bytes()))).collect(),
        ..record(address, 0)
    }
}

pub(crate) fn intent(id: &str, address: &str) -> Intent {
    Intent {
        id: id.into(),
        address: address.into(),
        action: "create".into(),
        resource_type: "ssh_file".into(),
        provider: "ssh".into(),
        target: "gpu01".into(),
        identity: None,
        started_at: Timestamp::UNIX_EPOCH,
        run: "run".into(),
    }
}

async fn locked(store: &Store) -> Lock {
    store.lock(LockRequest::new("apply"), Duration::ZERO).await.unwrap()
}

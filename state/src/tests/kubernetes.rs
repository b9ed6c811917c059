//! Tests of the store in a cluster.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::bed::{Bed, Kind};
use super::{large, locked, record};
use crate::{DriftHistory, Kubernetes, Location, Observation, StateError, Store};

fn config(bed: &Bed) -> &Kubernetes {
    let Location::Kubernetes(config) = &bed.place.location else { panic!() };
    config
}

async fn secrets(config: &Kubernetes) -> Api<Secret> {
    let (client, namespace): (Client, String) = config.client().await.unwrap();
    Api::namespaced(client, &namespace)
}

async fn of_state(config: &Kubernetes) -> Vec<Secret> {
    let wanted = ListParams::default().labels(&format!("moorfast.dev/name={}", config.name));
    secrets(config).await.list(&wanted).await.unwrap().items
}

async fn shards(config: &Kubernetes) -> Vec<String> {
    let is_shard = |secret: &Secret| secret.metadata.labels.as_ref().unwrap()["moorfast.dev/part"] == "shard";
    of_state(config).await.into_iter().filter(is_shard).map(|secret| secret.metadata.name.unwrap()).collect()
}

/// Checks that each Secret is below its limit of 1 MiB, and its JSON below etcd's limit of 1.5 MiB.
pub(super) async fn sizes_are_fine(config: &Kubernetes) {
    let found = of_state(config).await;
    let sizes: Vec<usize> = found.iter().map(|secret| serde_json::to_vec(secret).unwrap().len()).collect();
    let (largest, all) = (sizes.iter().max().unwrap(), sizes.iter().sum::<usize>());
    println!("{} Secrets, the largest {largest} bytes, all {all} bytes", sizes.len());
    assert!(*largest < 1 << 20, "{largest} bytes");
}

/// Changes the text of the head.
async fn damage(config: &Kubernetes, change: impl Fn(&str) -> String) {
    let secrets = secrets(config).await;
    let mut head = secrets.get(&config.name).await.unwrap();
    let data: &mut BTreeMap<String, ByteString> = head.data.as_mut().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*data["state"].0), &mut text).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(change(&text).as_bytes()).unwrap();
    data.insert("state".into(), ByteString(packed.finish().unwrap()));
    secrets.replace(&config.name, &Default::default(), &head).await.unwrap();
}

async fn error(bed: &Bed) -> String {
    match Store::open_existing_at(&bed.place.location, &bed.place.dir).await {
        Ok(Some(store)) => match store.snapshot().await {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        },
        Ok(None) => "no state".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A name, and a change of the text of a head.
type Damage = (&'static str, fn(&str) -> String);

#[tokio::test]
async fn a_state_that_cannot_be_used_says_why() {
    if Bed::new(Kind::Kubernetes).is_none() {
        return;
    }
    let damages: [Damage; 4] = [
        ("a newer format", |text| text.replace("\"format\":1", "\"format\":7")),
        ("no head", |text| text.replace("\"lineage\"", "\"ancestry\"")),
        ("a row that is no record", |text| format!("{text}record \"ssh_file.b\" {{}}\n")),
        ("a line that is no row", |text| format!("{text}nonsense\n")),
    ];
    let mut said = String::new();
    for (name, change) in damages {
        let bed = Bed::new(Kind::Kubernetes).unwrap();
        locked(&bed.open().await).await.put(record("ssh_file.a", 1)).await.unwrap();
        damage(config(&bed), change).await;
        said += &format!("{name}: {}\n", error(&bed).await.replace(&config(&bed).name, "NAME"));
    }
    let bed = Bed::new(Kind::Kubernetes).unwrap();
    locked(&bed.open().await).await.put(record("ssh_file.a", 1)).await.unwrap();
    secrets(config(&bed)).await.delete(&format!("{}-key", config(&bed).name), &Default::default()).await.unwrap();
    said += &format!("no key: {}\n", error(&bed).await.replace(&config(&bed).name, "NAME"));
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let Some(bed) = Bed::new(Kind::Kubernetes) else { return };
    let right = config(&bed);
    let cases = [
        ("no such file", Kubernetes { kubeconfig: Some("/none/kubeconfig".into()), ..right.clone() }),
        ("no such context", Kubernetes { context: Some("none".into()), ..right.clone() }),
        ("not a name", Kubernetes { name: "Not A Name".into(), ..right.clone() }),
        ("no such namespace", Kubernetes { namespace: Some("none".into()), name: "name".into(), ..right.clone() }),
    ];
    let mut said = String::new();
    for (name, config) in cases {
        let Err(error) = Store::open_at(&Location::Kubernetes(config), &bed.place.dir).await else { panic!("{name}") };
        said += &format!(
            "{name}: {}\n",
            error.to_string().replace(right.kubeconfig.as_ref().unwrap().to_str().unwrap(), "FILE")
        );
    }
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let Some(bed) = Bed::new(Kind::Kubernetes) else { return };
    let config = config(&bed);
    let other = json!({ "metadata": { "name": config.name }, "stringData": { "password": "x" } });
    let other: Secret = serde_json::from_value(other).unwrap();
    secrets(config).await.create(&Default::default(), &other).await.unwrap();
    let Err(StateError::Refused { .. }) = Store::open_at(&bed.place.location, &bed.place.dir).await else { panic!() };
}

#[tokio::test]
async fn a_history_of_drift_that_was_not_packed_yet_is_read() {
    let Some(bed) = Bed::new(Kind::Kubernetes) else { return };
    let (config, store) = (config(&bed), bed.open().await);
    let observation = Observation {
        at: Timestamp::UNIX_EPOCH,
        seen: vec![],
        unseen: Default::default(),
        reported: false,
        posted: None,
    };
    store.note_drift(&observation).await.unwrap();
    let text = serde_json::to_vec(&store.drift().await.unwrap()).unwrap();
    let secrets = secrets(config).await;
    let mut secret = secrets.get(&format!("{}-drift", config.name)).await.unwrap();
    secret.data = Some([("state".to_owned(), ByteString(text))].into());
    secrets.replace(&format!("{}-drift", config.name), &Default::default(), &secret).await.unwrap();
    assert_eq!(store.drift().await.unwrap(), DriftHistory::default().after(&observation));
    store.note_drift(&observation).await.unwrap();
    assert_eq!(store.drift().await.unwrap(), DriftHistory::default().after(&observation));
}

/// A write of many shards was interrupted before the head referred to them. The next holder of the lock deletes them.
#[tokio::test]
async fn what_a_cut_off_write_left_behind_is_cleared_away() {
    let Some(bed) = Bed::new(Kind::Kubernetes) else { return };
    let config = config(&bed);
    let store = bed.open().await;
    let lock = locked(&store).await;
    lock.put(large("ssh_file.a", 4096)).await.unwrap();
    for at in 0..40 {
        let noise: String = (0..2000)
            .map(|i| char::from(b'a' + (blake3::hash(&[at, (i % 251) as u8, (i / 251) as u8]).as_bytes()[0] % 26)))
            .collect();
        let noisy = crate::Record { private: json!(noise), ..record(&format!("ssh_file.n{at}"), 1) };
        lock.put(noisy).await.unwrap();
    }
    lock.release().await.unwrap();
    let before = shards(config).await;
    assert!(!before.is_empty());
    let orphan: Secret = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{}-1-0123456789abcdef", config.name),
            "labels": { "moorfast.dev/name": config.name, "moorfast.dev/part": "shard" },
        },
        "type": "moorfast.dev/state",
    }))
    .unwrap();
    secrets(config).await.create(&Default::default(), &orphan).await.unwrap();
    drop(locked(&store).await);
    drop(store);
    assert_eq!(shards(config).await, before, "what is needed stays, what nobody names is gone");
    assert_eq!(bed.open_existing().await.unwrap().snapshot().await.unwrap().records.len(), 41);
}

/// A label on the head does not change the version of the state.
#[tokio::test]
async fn a_label_on_the_head_takes_no_lock_away() {
    let Some(bed) = Bed::new(Kind::Kubernetes) else { return };
    let config = config(&bed);
    let store = bed.open().await;
    let lock = locked(&store).await;
    lock.put(record("ssh_file.a", 1)).await.unwrap();
    let label = json!({ "metadata": { "labels": { "team": "x" } } });
    secrets(config).await.patch(&config.name, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    lock.put(record("ssh_file.b", 1)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().serial.get(), 2);
}

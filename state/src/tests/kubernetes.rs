//! What is particular to the store in the cluster.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};

use super::bed::{Bed, Kind};
use super::{locked, record};
use crate::{Kubernetes, Location, StateError};

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

/// Each is below the 1 MiB that a Secret may hold, and as JSON well below the 1.5 MiB of a request to etcd.
pub(super) async fn sizes_are_fine(config: &Kubernetes) {
    let found = of_state(config).await;
    let sizes: Vec<usize> = found.iter().map(|secret| serde_json::to_vec(secret).unwrap().len()).collect();
    let (largest, all) = (sizes.iter().max().unwrap(), sizes.iter().sum::<usize>());
    println!("{} Secrets, the largest {largest} bytes, all {all} bytes", sizes.len());
    assert!(*largest < 1 << 20, "{largest} bytes");
}

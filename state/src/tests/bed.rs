//! The stores that the tests use. Every law is tested in each of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{postgres, s3};
use crate::kubernetes::Cluster;
use crate::postgres::Database;
use crate::remote::Medium;
use crate::s3::Folder;
use crate::settings::Settings;
use crate::{Kubernetes, Location, Postgres, SealKey, Store};

/// The output of the testbed: a file, or the text.
const TESTBED: &str = "MOORFAST_TESTBED_JSON";
/// If set to 1, tests that need the testbed fail instead of being skipped.
const REQUIRE: &str = "MOORFAST_REQUIRE_TESTBED";

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Kubernetes,
    Postgres,
    S3,
}

/// A place for the state of one test.
pub(super) struct Bed {
    pub(super) place: Place,
    kind: Kind,
    _dir: tempfile::TempDir,
}

/// The place of the state, for another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) location: Location,
    pub(super) dir: PathBuf,
}

impl Bed {
    /// Returns `None` and prints the reason if this store is not available on this machine.
    pub(super) fn new(kind: Kind) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let location = match kind {
            Kind::Sqlite => Location::Sqlite {},
            Kind::Kubernetes => Location::Kubernetes(Kubernetes {
                name: name(),
                namespace: Some("default".into()),
                kubeconfig: Some(kubeconfig()?),
                context: None,
                environment: None,
            }),
            Kind::S3 => Location::S3(s3::config(name())?),
            Kind::Postgres => Location::Postgres(Postgres { url: postgres::url()?, name: name(), environment: None }),
        };
        Some(Self { place: Place { location, dir: dir.path().to_owned() }, kind, _dir: dir })
    }

    /// Returns another place of the same kind.
    pub(super) fn another(&self) -> Self {
        Self::new(self.kind).unwrap()
    }

    /// Returns the number of rounds: fewer on a server, which takes about ten times as long as a local disk.
    pub(super) fn rounds(&self, rounds: usize) -> usize {
        if self.kind == Kind::Sqlite { rounds } else { rounds / 8 }
    }

    /// Checks that no object exceeds the limits of the server.
    pub(super) async fn sizes_are_fine(&self) {
        if let Location::Kubernetes(config) = &self.place.location {
            super::kubernetes::sizes_are_fine(config).await;
        }
    }

    /// Returns the keys beside the state.
    pub(super) async fn keys(&self) -> Vec<SealKey> {
        let location = self.place.location.clone();
        let keys = match location {
            Location::Sqlite {} => {
                let files = std::fs::read_dir(&self.place.dir).unwrap().map(|entry| entry.unwrap().path());
                let keys = files.filter(|path| path.to_str().unwrap().contains("key"));
                Ok(keys.map(|path| SealKey::from_bytes(std::fs::read(path).unwrap().try_into().unwrap())).collect())
            }
            Location::Kubernetes(config) => Cluster::connect(config).await.unwrap().keys().await,
            Location::Postgres(config) => Database::connect(config, false).await.unwrap().keys().await,
            Location::S3(config) => Folder::connect(config).await.unwrap().keys().await,
        };
        keys.unwrap()
    }

    pub(super) async fn open(&self) -> Store {
        self.place.open(Settings::default()).await
    }

    pub(super) async fn open_with(&self, settings: Settings) -> Store {
        self.place.open(settings).await
    }

    /// Opens the state for reading only.
    pub(super) async fn open_existing(&self) -> Option<Store> {
        Store::open_existing_at(&self.place.location, &self.place.dir).await.unwrap()
    }
}

impl Place {
    pub(super) async fn open(&self, settings: Settings) -> Store {
        Store::open_with(&self.location, &self.dir, settings).await.unwrap()
    }
}

impl From<&Path> for Place {
    fn from(dir: &Path) -> Self {
        Self { location: Location::Sqlite {}, dir: dir.to_owned() }
    }
}

fn name() -> String {
    format!("t-{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

/// Returns the kubeconfig of the testbed.
pub(super) fn kubeconfig() -> Option<PathBuf> {
    let Ok(given) = std::env::var(TESTBED) else {
        return skipped(&format!("{TESTBED} does not name what `testbed up` printed"));
    };
    let text = if given.trim_start().starts_with('{') { given } else { std::fs::read_to_string(given).unwrap() };
    let testbed: Value = serde_json::from_str(&text).unwrap();
    Some(testbed["control_plane"]["kubeconfig"].as_str().unwrap().into())
}

/// Prints why a test is skipped, or fails if it must not be skipped.
pub(super) fn skipped<T>(why: &str) -> Option<T> {
    assert_ne!(std::env::var(REQUIRE).as_deref(), Ok("1"), "{why}, and {REQUIRE}=1");
    println!("skipped: {why}");
    None
}

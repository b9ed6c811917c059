//! The location of a state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kubernetes::{Cluster, Kubernetes};
use crate::postgres::{Database, Postgres};
use crate::remote::Remote;
use crate::s3::{Folder, S3};
use crate::settings::Settings;
use crate::sqlite::Sqlite;
use crate::{StateError, Store};

/// The location of a state. Contains no secret, so it can be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Location {
    /// A database in the state folder.
    Sqlite {},
    /// Secrets in a Kubernetes cluster.
    Kubernetes(Kubernetes),
    /// Rows in a PostgreSQL database.
    Postgres(Postgres),
    /// Objects in a bucket.
    S3(S3),
}

impl Location {
    /// Returns the location with relative paths resolved against the folder `root`.
    #[must_use]
    pub fn in_folder(mut self, root: &Path) -> Self {
        if let Self::Kubernetes(Kubernetes { kubeconfig: Some(path), .. }) = &mut self {
            let home = path.strip_prefix("~").ok().zip(std::env::home_dir());
            *path = home.map_or_else(|| root.join(&*path), |(rest, home)| home.join(rest));
        }
        self
    }

    pub(crate) async fn open(&self, dir: &Path, settings: Settings) -> Result<Store, StateError> {
        match self.clone() {
            Self::Sqlite {} => Sqlite::open(dir, settings).await.map(Store::of),
            Self::Kubernetes(config) => Remote::open(Cluster::connect(config), settings).await.map(Store::of),
            Self::Postgres(config) => Remote::open(Database::connect(config, true), settings).await.map(Store::of),
            Self::S3(config) => Remote::open(Folder::connect(config), settings).await.map(Store::of),
        }
    }

    pub(crate) async fn open_existing(&self, dir: &Path, settings: Settings) -> Result<Option<Store>, StateError> {
        Ok(match self.clone() {
            Self::Sqlite {} => Sqlite::open_existing(dir, settings).await?.map(Store::of),
            Self::Kubernetes(config) => Remote::open_existing(Cluster::connect(config), settings).await?.map(Store::of),
            Self::Postgres(config) => {
                Remote::open_existing(Database::connect(config, false), settings).await?.map(Store::of)
            }
            Self::S3(config) => Remote::open_existing(Folder::connect(config), settings).await?.map(Store::of),
        })
    }
}

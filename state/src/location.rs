//! The location of a state.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::kubernetes::{Cluster, Kubernetes};
use crate::postgres::{Database, Postgres};
use crate::remote::Remote;
use crate::s3::{Folder, S3};
use crate::settings::Settings;
use crate::sqlite::Sqlite;
use crate::{EnvironmentName, StateError};

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
    /// Returns the location of the state of an environment. No two environments have the same location, whatever their settings.
    ///
    /// The location of a SQLite state is the folder that it is opened in, see [`EnvironmentName::folder`].
    #[must_use]
    pub fn in_environment(mut self, name: Option<&EnvironmentName>) -> Self {
        match &mut self {
            Self::Sqlite {} => {}
            Self::Kubernetes(Kubernetes { environment, .. })
            | Self::Postgres(Postgres { environment, .. })
            | Self::S3(S3 { environment, .. }) => *environment = name.cloned(),
        }
        self
    }

    /// Returns the location with relative paths resolved against the folder `root`.
    #[must_use]
    pub fn in_folder(mut self, root: &Path) -> Self {
        if let Self::Kubernetes(Kubernetes { kubeconfig: Some(path), .. }) = &mut self {
            let home = path.strip_prefix("~").ok().zip(std::env::home_dir());
            *path = home.map_or_else(|| root.join(&*path), |(rest, home)| home.join(rest));
        }
        self
    }

    /// Opens the store for writing; creates the state if it does not exist.
    pub(crate) async fn open(&self, dir: &Path, settings: Settings) -> Result<Arc<dyn Backend>, StateError> {
        Ok(match self.clone() {
            Self::Sqlite {} => Arc::new(Sqlite::open(dir, settings).await?),
            Self::Kubernetes(config) => Arc::new(Remote::open(Cluster::connect(config), settings).await?),
            Self::Postgres(config) => Arc::new(Remote::open(Database::connect(config, true), settings).await?),
            Self::S3(config) => Arc::new(Remote::open(Folder::connect(config), settings).await?),
        })
    }

    /// Opens the store for reading only. Returns `None` if the state does not exist.
    pub(crate) async fn open_existing(
        &self,
        dir: &Path,
        settings: Settings,
    ) -> Result<Option<Arc<dyn Backend>>, StateError> {
        Ok(match self.clone() {
            Self::Sqlite {} => shared(Sqlite::open_existing(dir, settings).await?),
            Self::Kubernetes(config) => shared(Remote::open_existing(Cluster::connect(config), settings).await?),
            Self::Postgres(config) => shared(Remote::open_existing(Database::connect(config, false), settings).await?),
            Self::S3(config) => shared(Remote::open_existing(Folder::connect(config), settings).await?),
        })
    }
}

fn shared(backend: Option<impl Backend + 'static>) -> Option<Arc<dyn Backend>> {
    backend.map(|backend| Arc::new(backend) as Arc<dyn Backend>)
}

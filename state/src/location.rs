//! Where a state is kept.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::sqlite::Sqlite;
use crate::{StateError, Store};

/// Where a state is kept. Never holds a secret, so it can be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Location {
    /// A database in the folder of moorfast's own things.
    Sqlite {},
}

impl Location {
    pub(crate) async fn open(&self, dir: &Path, settings: Settings) -> Result<Store, StateError> {
        match self {
            Self::Sqlite {} => Sqlite::open(dir, settings).await.map(Store::of),
        }
    }

    pub(crate) async fn open_existing(&self, dir: &Path, settings: Settings) -> Result<Option<Store>, StateError> {
        match self {
            Self::Sqlite {} => Ok(Sqlite::open_existing(dir, settings).await?.map(Store::of)),
        }
    }
}

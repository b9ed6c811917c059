//! The environment of a configured provider.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::{Class, ClientCertificates, Connection, ProviderError, ResourceType, StartPermit};
use crate::model::{Address, is_inside};

/// The environment that a provider is configured with, in addition to its configuration.
#[derive(Clone, Debug)]
pub struct Context {
    /// The folder of the manifest. Relative paths start here.
    pub root: PathBuf,
    /// The folder for moorfast's own files, which all environments share: `.moorfast` beside the manifest.
    pub data_dir: PathBuf,
    /// The folder of the state, and of everything else that belongs to one environment, such as the host keys of its nodes. It is `data_dir` or inside it.
    pub state_dir: PathBuf,
    /// Whether the manifest is untrusted. If so, the provider reads files below `root`, but runs no program, sends no request and reads no other file that the
    /// manifest names.
    pub untrusted: bool,
    /// The token that is cancelled when running operations must be aborted.
    pub cancel: CancellationToken,
    /// The permit that a provider checks immediately before it starts an operation.
    pub start_permit: StartPermit,
    /// The receiver of progress messages.
    pub progress: Progress,
    /// The key store that the manifest names.
    pub key_store: Option<KeyStoreSettings>,
    /// The providers that [`Provider::uses`](super::Provider::uses) names.
    pub used: UsedProviders,
    /// The issuer of client certificates in memory.
    pub client_certificates: ClientCertificates,
}

/// `[keystore]`: where keys are stored that must outlive every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStoreSettings {
    /// The file, or the folder if there are no recipients.
    pub file: PathBuf,
    /// The age recipients for which the file is encrypted.
    pub recipients: Vec<String>,
}

/// The other providers that a provider uses, by name.
#[derive(Clone, Default)]
pub struct UsedProviders(pub BTreeMap<&'static str, UsedProvider>);

/// Another provider that a provider uses.
#[derive(Clone)]
pub struct UsedProvider {
    /// Its connection.
    pub connection: Arc<dyn Connection>,
    /// Its resource types, for requests to the connection.
    pub resource_types: Vec<Arc<dyn ResourceType>>,
}

/// Writes the names of the providers.
impl fmt::Debug for UsedProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Context {
    /// Returns the path of a file on this machine that the manifest names. Relative paths start at the folder of the manifest.
    ///
    /// # Errors
    /// If the manifest is untrusted and the file is outside of its folder.
    pub fn file(&self, path: &str) -> Result<PathBuf, ProviderError> {
        let file = self.root.join(path);
        if self.untrusted && !is_inside(&self.root, &self.data_dir, &file) {
            let summary = format!("{path} is outside of the folder of the manifest, which is not trusted");
            return Err(ProviderError::new(Class::Denied, summary));
        }
        Ok(file)
    }
}

/// The channel for progress messages: what an operation or the run waits for, how much of a file is uploaded.
#[derive(Clone, Debug)]
pub struct Progress(pub Option<UnboundedSender<ProgressMessage>>);

/// A progress message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressMessage {
    /// The progress of the operation on an instance.
    Operation(Address, String),
    /// What the run waits for, also while it reads.
    Waiting(String),
}

impl Progress {
    /// Reports `message` as the progress of the operation on `address`.
    pub fn report(&self, address: &Address, message: impl Into<String>) {
        self.send(|| ProgressMessage::Operation(address.clone(), message.into()));
    }

    /// Reports what the run waits for.
    pub fn report_waiting(&self, message: impl Into<String>) {
        self.send(|| ProgressMessage::Waiting(message.into()));
    }

    fn send(&self, message: impl FnOnce() -> ProgressMessage) {
        if let Some(sender) = &self.0 {
            // The operation goes on if nobody receives its progress.
            let _ = sender.send(message());
        }
    }
}

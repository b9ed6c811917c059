//! The configured providers of one run.

mod events;
mod failure;

pub use events::{Event, Events, Interrupt, RolloutStep};
pub use failure::Failure;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use moorfast_state::EnvironmentName;

use crate::configuration::evaluate::conformed;
use crate::configuration::expand::{Binding, Expanded};
use crate::configuration::scope::{InstanceScope, Values};
use crate::manifest::KEY_STORE;
use crate::model::{Attributes, Diagnostic, Value};
use crate::provider::catalog::Catalog;
use crate::provider::known_secrets::KnownSecrets;
use crate::provider::protected_connection::ProtectedConnection;
use crate::provider::{
    Class, ClientCertificates, Connection, Context, KeyStoreSettings, Progress, ProgressMessage, Provider,
    ProviderError, Redaction, StartPermit, UsedProvider, UsedProviders,
};

/// The configured providers of one run, by the name of the provider instance.
pub(crate) struct Session {
    connections: HashMap<String, Arc<dyn Connection>>,
    /// The permit that the providers check before they start an operation.
    pub start_permit: StartPermit,
    /// The events of the run.
    pub events: Events,
}

impl Session {
    /// Configures the provider instances `aliases`. No connection is made yet.
    pub async fn open(
        expanded: &Expanded,
        aliases: impl IntoIterator<Item = String>,
        data_dir: &Path,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let mut connections: HashMap<String, Arc<dyn Connection>> = HashMap::new();
        let start_permit = StartPermit::until(interrupt.stop.clone());
        let key_store = key_store(expanded).map_err(Failure::Manifest)?;
        let variables = expanded.modules.iter().flat_map(|module| module.variables.values());
        let secrets = Arc::new(KnownSecrets::of(variables.map(AsRef::as_ref)));
        for alias in after_used(&expanded.catalog, aliases) {
            if connections.contains_key(&alias) {
                continue;
            }
            let Some(provider) = expanded.catalog.provider(&alias) else { continue };
            if alias.contains('.') && !expanded.manifest.providers.contains_key(&alias) {
                return Err(Failure::Provider(alias.clone(), Box::new(undeclared(&alias))));
            }
            let config = configuration(expanded, provider.as_ref(), &alias).map_err(Failure::Manifest)?;
            let mut context = Context {
                root: expanded.manifest.root.clone(),
                data_dir: data_dir.to_owned(),
                state_dir: EnvironmentName::folder(expanded.manifest.environment.as_ref(), data_dir),
                untrusted: expanded.manifest.untrusted.is_some(),
                cancel: interrupt.cancel.clone(),
                start_permit: start_permit.clone(),
                progress: progress(events.clone()),
                key_store: key_store.clone(),
                used: used(provider.as_ref(), &expanded.catalog, &connections),
                client_certificates: ClientCertificates::default(),
            };
            context.client_certificates =
                ClientCertificates(expanded.catalog.providers().find_map(|p| p.certificate_issuer(&context)));
            secrets.add(config.values());
            let connection = provider.configure(&config, context).await;
            let connection = connection.map_err(|error| {
                let redaction = Redaction::of(config.values()).and(&secrets.redaction());
                Failure::Provider(alias.clone(), Box::new(redaction.error(error)))
            })?;
            connections.insert(alias, Arc::new(ProtectedConnection::new(connection, Arc::clone(&secrets))));
        }
        Ok(Self { connections, start_permit, events: events.clone() })
    }

    /// Returns the connection of a configured provider instance.
    pub fn connection(&self, alias: &str) -> Option<&Arc<dyn Connection>> {
        self.connections.get(alias)
    }

    /// Returns the connections of all configured provider instances.
    pub fn connections(&self) -> impl Iterator<Item = &Arc<dyn Connection>> {
        self.connections.values()
    }

    /// Returns the connection to the nodes that send the probes of checks.
    pub fn probing(&self, expanded: &Expanded) -> Option<&Arc<dyn Connection>> {
        self.connection(&expanded.probing_provider()?)
    }

    /// Returns how often all providers together have accessed their targets so far.
    pub fn statistics(&self) -> Vec<(String, u64)> {
        let mut counts = BTreeMap::new();
        for (name, count) in self.connections.values().flat_map(|c| c.statistics()) {
            *counts.entry(name.to_owned()).or_default() += count;
        }
        counts.into_iter().collect()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        futures::future::join_all(self.connections.values().map(|c| c.close())).await;
    }
}

/// Returns the configured providers that `provider` uses.
fn used(
    provider: &dyn Provider,
    catalog: &Catalog,
    connections: &HashMap<String, Arc<dyn Connection>>,
) -> UsedProviders {
    let configured = |name: &&'static str| {
        let connection = connections.get(*name)?.clone();
        Some((*name, UsedProvider { connection, resource_types: catalog.provider(name)?.resource_types() }))
    };
    UsedProviders(provider.uses().iter().filter_map(configured).collect())
}

/// Returns the configuration of a provider instance in the manifest, validated and with defaults.
pub(crate) fn configuration(
    expanded: &Expanded,
    provider: &dyn Provider,
    alias: &str,
) -> Result<Attributes, Vec<Diagnostic>> {
    let scope = InstanceScope::new(expanded, Values::none(), Binding::default());
    let block = expanded.manifest.providers.get(alias);
    let written = block.map(|b| b.attributes.as_slice()).unwrap_or_default();
    conformed(&provider.config_schema(), written, &scope)
}

/// Returns `aliases`, each after the providers that its provider uses.
fn after_used(catalog: &Catalog, aliases: impl IntoIterator<Item = String>) -> Vec<String> {
    let with_used = |alias: String| {
        let used = catalog.provider(&alias).map(|provider| provider.uses()).unwrap_or_default();
        used.iter().map(|name| (*name).to_owned()).chain([alias]).collect::<Vec<_>>()
    };
    aliases.into_iter().flat_map(with_used).collect()
}

/// Returns the settings of the key store, if the manifest has `[keystore]`.
fn key_store(expanded: &Expanded) -> Result<Option<KeyStoreSettings>, Vec<Diagnostic>> {
    let Some(block) = &expanded.manifest.key_store else { return Ok(None) };
    let scope = InstanceScope::new(expanded, Values::none(), Binding::default());
    let settings = conformed(&KEY_STORE, &block.attributes, &scope)?;
    let file = settings.get("file").and_then(Value::as_str);
    let file =
        file.ok_or_else(|| vec![Diagnostic::error("the path of the key store is not known").at(block.span, "")])?;
    let recipients = settings.get("recipients").filter(|recipients| !recipients.is_null());
    let recipients = recipients.map(|list| list.as_list().unwrap_or_default());
    if recipients.is_some_and(<[Value]>::is_empty) {
        let nobody =
            Diagnostic::error("the key store is encrypted for nobody: `recipients` is empty").at(block.span, "");
        return Err(vec![nobody.help("add a public key, or remove `recipients` for a folder that is not encrypted")]);
    }
    let recipients = recipients.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Some(KeyStoreSettings { file: expanded.manifest.root.join(file), recipients }))
}

/// Returns a progress channel that sends to `events`.
fn progress(events: Events) -> Progress {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            events.send(match message {
                ProgressMessage::Operation(address, message) => Event::Progress { address, message },
                ProgressMessage::Waiting(message) => Event::Waiting { message },
            });
        }
    });
    Progress(Some(sender))
}

/// Returns the error for a provider instance that is in the state but not in the manifest. Its objects must not be read through another provider instance.
fn undeclared(alias: &str) -> ProviderError {
    let message = format!(
        "the provider instance `{alias}` is not declared in the manifest any more, but the state has resources of it"
    );
    ProviderError::new(Class::Invalid, message).help(format!(
        "keep [providers.{alias}] until they are destroyed, or remove them from the state with `moorfast state rm`"
    ))
}

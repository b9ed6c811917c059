//! The connection of the provider: hands each request to its type.

use async_trait::async_trait;
use moorfast_engine::model::{Address, Attributes, Identified, Machine};
use moorfast_engine::provider::{
    Applied, Class, Connection, Consequence, Context, DataRequest, Observed, Operation, PlanRequest, Proposal,
    ProviderError, ReadRequest, ResourceType, Target,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::certificates::{self, Ssh};
use crate::data;
use crate::store::KeyStore;
use crate::stored::{self, Stored, StoredType};

/// The configured provider.
pub(crate) struct PkiConnection {
    context: Context,
    store: KeyStore,
}

impl PkiConnection {
    pub(crate) fn new(context: Context) -> Self {
        Self { store: KeyStore::of(&context), context }
    }

    /// Carries out an operation on an entry of the key store.
    async fn change_entry(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let stored = stored_type(&*operation.resource_type)?;
        self.context.start_permit.check(&operation.address)?;
        let (operation, store) = (operation.clone(), self.store.clone());
        // A new RSA key takes seconds.
        blocking(move || stored::apply(stored, &operation, &store)).await
    }
}

#[async_trait]
impl Connection for PkiConnection {
    async fn identify(&self, target: &Target) -> Result<Option<Identified>, ProviderError> {
        Ssh::of(&self.context)?.connection.identify(target).await
    }

    async fn accept_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        Ssh::of(&self.context)?.connection.accept_machine(target, machine).await
    }

    async fn trust_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        Ssh::of(&self.context)?.connection.trust_machine(target, machine).await
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let failed = |error| vec![Err(error); requests.len()];
        let store = self.store.clone();
        let entries = match blocking(move || store.read()).await {
            Ok(entries) => entries,
            Err(error) => return failed(error),
        };
        match target {
            Target::Node(_) => match Ssh::of(&self.context) {
                Ok(ssh) => certificates::read(&ssh, target, requests, &entries).await,
                Err(error) => failed(error),
            },
            Target::Provider(_) => {
                let read = |request: &ReadRequest| {
                    stored::read(stored_type(&*request.resource_type)?, request, &self.store, &entries)
                };
                requests.iter().map(read).collect()
            }
        }
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        match target {
            Target::Node(_) => match Ssh::of(&self.context) {
                Ok(ssh) => certificates::plan(&ssh, target, requests).await.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); requests.len()],
            },
            Target::Provider(_) => {
                let plan = |request: &PlanRequest| Ok(stored::plan(stored_type(&*request.resource_type)?, request));
                requests.iter().map(plan).collect()
            }
        }
    }

    async fn apply(
        &self,
        target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        // The receiver is gone only when the run is.
        let report = |index, outcome| _ = outcomes.send((index, outcome));
        match (target, Ssh::of(&self.context)) {
            (Target::Node(_), Ok(ssh)) => {
                let (store, all, file_type) = (self.store.clone(), operations.to_vec(), ssh.file_type.clone());
                match blocking(move || Ok(certificates::jobs(&file_type, &all, &store))).await {
                    Ok(jobs) => certificates::apply(&ssh, target, jobs, &outcomes).await,
                    Err(error) => (0..operations.len()).for_each(|index| report(index, Err(error.clone()))),
                }
            }
            (Target::Node(_), Err(error)) => {
                (0..operations.len()).for_each(|index| report(index, Err(error.clone())));
            }
            (Target::Provider(_), _) => {
                for (index, operation) in operations.iter().enumerate() {
                    report(index, self.change_entry(operation).await);
                }
            }
        }
    }

    async fn read_data(&self, _: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        requests.iter().map(data::read).collect()
    }

    async fn removal_consequences(
        &self,
        _: &Target,
        requests: &[ReadRequest],
    ) -> Vec<Result<Vec<Consequence>, ProviderError>> {
        let consequences = |request: &ReadRequest| {
            let stored = request.resource_type.downcast_ref::<StoredType>().map(|held| held.stored);
            let of_stored = |stored: &dyn Stored| Consequence::Invalidation { object: stored.dependants().to_owned() };
            Ok(stored.map(of_stored).into_iter().collect())
        };
        requests.iter().map(consequences).collect()
    }

    async fn pending_maintenance(&self) -> Vec<String> {
        let store = self.store.clone();
        // If the key store cannot be read, the readings report it.
        let other = blocking(move || store.other_recipients()).await.ok().flatten();
        other.into_iter().map(|how| format!("the key store will be encrypted for other recipients: {how}")).collect()
    }

    async fn maintain(&self) -> Result<(), ProviderError> {
        let store = self.store.clone();
        blocking(move || store.encrypt_again()).await
    }

    async fn wait_until_reachable(&self, target: &Target, waiting: &Address) -> Result<(), ProviderError> {
        match target {
            Target::Node(_) => Ssh::of(&self.context)?.connection.wait_until_reachable(target, waiting).await,
            Target::Provider(_) => Ok(()),
        }
    }
}

/// Returns the type of a request whose object is in the key store.
fn stored_type(resource_type: &dyn ResourceType) -> Result<&'static dyn Stored, ProviderError> {
    let held = resource_type.downcast_ref::<StoredType>().map(|held| held.stored);
    let unknown = || {
        let summary = format!("the provider `pki` has no resource type `{}`", resource_type.name());
        ProviderError::new(Class::Invalid, summary)
    };
    held.ok_or_else(unknown)
}

/// Runs `work`, which reads and writes files and makes keys, beside the other work of the run.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    let ended = |_| Err(ProviderError::new(Class::Failed, "the work on the key store ended unexpectedly"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
}

//! The trait of a configured provider.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Applied, Class, Consequence, DataRequest, Described, DrainRequest, Existing, Finding, NodeNetwork, Observed,
    Operation, PlanRequest, Proposal, ProviderError, ReadRequest, Target,
};
use crate::model::{Address, Attributes, Identified, Machine};

/// A configured provider, which reads and changes objects.
///
/// All methods may be called concurrently, also for the same target. Methods that take several requests return one result for each request, in the same order.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Returns the machine that answers as a node. Returns `None` if the target is not a machine.
    ///
    /// If the machine does not prove that it is the known one, the provider reads its identity and nothing else, and sends nothing sensitive to it.
    ///
    /// # Errors
    /// If the node does not answer, or its identity cannot be read.
    async fn identify(&self, _target: &Target) -> Result<Option<Identified>, ProviderError> {
        Ok(None)
    }

    /// Accepts `machine`, as [`Connection::identify`] returned it, as the machine of the node for this run.
    ///
    /// # Errors
    /// If the machine does not answer any more.
    async fn accept_machine(&self, _target: &Target, _machine: &Machine) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Trusts an accepted machine in later runs too, for example by storing its host keys.
    ///
    /// # Errors
    /// If this cannot be stored.
    async fn trust_machine(&self, _target: &Target, _machine: &Machine) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Waits until a target answers that this run starts or restarts. The engine calls this before each call on such a target.
    ///
    /// `waiting` is one of the instances that wait for the target. Progress is reported under its address.
    ///
    /// # Errors
    /// If the target does not answer within some minutes.
    async fn wait_until_reachable(&self, _target: &Target, _waiting: &Address) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Checks what the provider needs of a target, for example that the login works, and which programs or permissions are missing. Changes nothing.
    ///
    /// `requests` are the instances of the manifest on the target, with their desired attributes as far as the manifest alone determines them. Returns the
    /// findings in the order of [`Need`](super::Need); those that could not be checked are left out. Returns none if the provider has nothing to check.
    async fn check_access(&self, _target: &Target, _requests: &[ReadRequest]) -> Vec<Finding> {
        Vec::new()
    }

    /// Returns the observed attributes of each object, or `None` if the object does not exist.
    ///
    /// The attributes are those of the schema. An attribute that cannot be compared with an earlier reading is left out.
    ///
    /// # Errors
    /// If the target does not answer, each of its requests fails with [`Class::Unreachable`].
    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>>;

    /// Returns for each object how it can be given its desired attributes. Changes nothing.
    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>>;

    /// Returns for each object what else its removal would change, for example the packages that need a removed package. Changes nothing.
    async fn removal_consequences(
        &self,
        _target: &Target,
        requests: &[ReadRequest],
    ) -> Vec<Result<Vec<Consequence>, ProviderError>> {
        requests.iter().map(|_| Ok(Vec::new())).collect()
    }

    /// Returns warnings about what the next apply changes in the storage of the provider itself, besides the changes of the plan. Changes nothing.
    async fn pending_maintenance(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the changes of [`Connection::pending_maintenance`]. The engine calls this once in each apply of a manifest, before the first operation.
    ///
    /// # Errors
    /// If the changes cannot be made. The apply goes on, and reports the error.
    async fn maintain(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Runs the operations, concurrently if possible. Sends the index and the result of each operation to `outcomes` as soon as it ends.
    ///
    /// Each operation is reported exactly once. The operations of one call do not depend on each other.
    ///
    /// When the run is cancelled ([`Context::cancel`](super::Context::cancel)), running operations are aborted and end as [`Class::Cancelled`]. When the run may
    /// start nothing more ([`Context::start_permit`](super::Context::start_permit)), operations that did not start end as [`Class::NotStarted`], and running
    /// operations are finished, because a partial change would be worse.
    async fn apply(
        &self,
        target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    );

    /// Returns the data of each request. Called only for the data sources of the provider.
    async fn read_data(&self, _target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        let unread = |request: &DataRequest| {
            let summary = format!("the data source {} cannot be read", request.data_source.name());
            Err(ProviderError::new(Class::Invalid, summary))
        };
        requests.iter().map(unread).collect()
    }

    /// Returns what a manifest would say about existing objects of the target, for those of `wanted` that the provider knows. Changes nothing.
    ///
    /// An object whose content is secret, or cannot be written in a manifest, is returned with the reason instead of its attributes.
    ///
    /// # Errors
    /// If the target cannot be read, or an object of `wanted` does not exist.
    async fn describe(&self, _target: &Target, _wanted: &[Existing]) -> Result<Vec<Described>, ProviderError> {
        Ok(Vec::new())
    }

    /// Returns lines that may explain why something that depends on these objects failed, for example the last journal lines of a unit.
    ///
    /// Returns an empty list if there is nothing to report. The lines must not contain sensitive values.
    async fn explain(&self, _target: &Target, _requests: &[ReadRequest]) -> Vec<String> {
        Vec::new()
    }

    /// Waits until an object is healthy: a unit runs and keeps running, a Node is ready. Called only for types with
    /// [`ResourceType::has_health`](super::ResourceType::has_health).
    ///
    /// The engine calls this after an operation on the object or on something else of the same node. A health that was observed before the call proves nothing.
    ///
    /// # Errors
    /// [`Class::Timeout`], with the reason, if the object is not healthy within `timeout`.
    async fn wait_until_healthy(
        &self,
        _target: &Target,
        request: &ReadRequest,
        _timeout: Duration,
    ) -> Result<(), ProviderError> {
        Err(ProviderError::new(Class::Invalid, format!("the type {} has no health", request.resource_type.name())))
    }

    /// Moves the workloads of a node away, and prevents new ones from starting there. Returns messages for the user, one line each. Called only for types with
    /// [`ResourceType::can_be_drained`](super::ResourceType::can_be_drained).
    ///
    /// The cluster must record the owner of the drain together with its first effect, because the run can be killed at any time.
    /// The next reading returns the owner as [`ResourceType::drained_by`](super::ResourceType::drained_by). A node that somebody else keeps out of service has
    /// no owner. A node that the owner drained before is drained again.
    ///
    /// # Errors
    /// If a workload cannot be moved within the timeout, with the reason. The node may stay out of service then.
    async fn drain(&self, _target: &Target, request: &DrainRequest) -> Result<Vec<String>, ProviderError> {
        Err(undrainable(request))
    }

    /// Puts a node back into service that the owner drained. A node with another owner, or without one, is not changed.
    ///
    /// # Errors
    /// If the target does not answer within the timeout.
    async fn undrain(&self, _target: &Target, request: &DrainRequest) -> Result<(), ProviderError> {
        Err(undrainable(request))
    }

    /// Returns the network as the nodes of the provider see it. `None` if the provider does not connect to nodes: it has no
    /// [`Provider::host_keys`](super::Provider::host_keys).
    fn node_network(&self) -> Option<&dyn NodeNetwork> {
        None
    }

    /// Returns how often the provider has accessed its targets so far: `("ssh execs", 12)`.
    fn statistics(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Closes all connections.
    async fn close(&self) {}
}

fn undrainable(request: &DrainRequest) -> ProviderError {
    let name = request.object.resource_type.name();
    ProviderError::new(Class::Invalid, format!("an object of the type {name} cannot be drained"))
}

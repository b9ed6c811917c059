//! Explanations of failures by the objects that the failed change depends on.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::Executor;
use crate::model::Address;
use crate::provider::{Class, ProviderError, ReadRequest, Target};

/// How long an explanation may take.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Executor<'_> {
    /// Adds lines from the direct dependencies on nodes to `error`: the journal of a kubelet explains why its Node did not become ready.
    pub(super) async fn explained(&self, i: usize, error: ProviderError) -> ProviderError {
        self.explained_by(&self.change(i).dependencies, error).await
    }

    /// Adds lines from those of `causes` that are on nodes to `error`.
    pub(super) async fn explained_by(&self, causes: &[Address], mut error: ProviderError) -> ProviderError {
        if !matches!(error.class, Class::Timeout | Class::Failed) {
            return error;
        }
        let mut calls: BTreeMap<(String, String), (Target, Vec<ReadRequest>)> = BTreeMap::new();
        for address in causes {
            let Some(instance) = self.context.expanded.instance(address) else { continue };
            if !matches!(instance.target, Target::Node(_)) {
                continue;
            }
            let key = (instance.provider.clone(), instance.target.name().to_owned());
            let call = calls.entry(key).or_insert_with(|| (instance.target.clone(), Vec::new()));
            call.1.push(self.reading(address));
        }
        let explain =
            async |((alias, _), (target, requests)): ((String, String), (Target, Vec<ReadRequest>))| match self
                .context
                .session
                .connection(&alias)
            {
                Some(connection) => connection.explain(&target, &requests).await,
                None => Vec::new(),
            };
        let explanations = join_all(calls.into_iter().map(explain));
        // The explanation is optional, and other results wait.
        if let Ok(explanations) = tokio::time::timeout(TIMEOUT, explanations).await {
            error.detail.extend(explanations.into_iter().flatten());
        }
        error
    }

    fn reading(&self, address: &Address) -> ReadRequest {
        ReadRequest {
            address: address.clone(),
            resource_type: address.resource.resource_type.clone(),
            desired: None,
            recorded: self.records.get(&address.to_string()).cloned(),
        }
    }
}

//! The connection of the SSH provider: the shells of the nodes, the trust in their machines, and the dispatch of the engine's requests.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, Identified, Machine, Node, NodeName, Transport, Value};
use moorfast_engine::provider::{
    Class, Connection, Consequence, Context, DataRequest, Described, Existing, Finding, NodeNetwork, Observed,
    Operation, OperationAction, PlanRequest, Proposal, ProviderError, ReadRequest, ResourceType, Target,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::access;
use crate::description;
use crate::health;
use crate::limits::QUICK_LIMIT;
use crate::machine;
use crate::node_shell::{Counters, NodeShell};
use crate::operations::{Executor, Outcome};
use crate::planning;
use crate::reading;
use crate::resource_type::resource_of;
use crate::script::Script;
use crate::sources::Sources;
use crate::transport::{HostKey, JumpSockets, Local, Servers, Settings, Ssh, offered_keys, save_keys};
use crate::untrusted;

/// The configured provider.
pub(crate) struct SshConnection {
    context: Context,
    settings: Settings,
    sessions: usize,
    shells: Mutex<HashMap<NodeName, Arc<NodeShell>>>,
    /// The host keys of machines that did not show a known one.
    offered_keys: Mutex<HashMap<NodeName, Vec<HostKey>>>,
    sources: Arc<Sources>,
    counters: Arc<Counters>,
    jump_sockets: Arc<JumpSockets>,
    servers: Arc<Servers>,
}

impl SshConnection {
    pub(crate) fn new(config: &Attributes, context: Context) -> Result<Self, ProviderError> {
        if context.untrusted {
            untrusted::check_config(config)?;
        }
        let sessions = config.get("sessions").and_then(Value::as_i64).unwrap_or(8);
        let sessions = usize::try_from(sessions).ok().filter(|n| *n > 0).ok_or_else(|| {
            ProviderError::new(Class::Invalid, format!("sessions must be at least 1, not {sessions}"))
                .attribute("sessions")
        })?;
        Ok(Self {
            settings: Settings::new(config, &context.root),
            sessions,
            shells: Mutex::default(),
            offered_keys: Mutex::default(),
            sources: Arc::new(Sources::new(&context)),
            counters: Arc::default(),
            jump_sockets: Arc::default(),
            servers: Arc::default(),
            context,
        })
    }

    /// Returns the shell of a node.
    pub(crate) fn shell(&self, target: &Target) -> Result<Arc<NodeShell>, ProviderError> {
        let Target::Node(node) = target else {
            return Err(ProviderError::new(Class::Invalid, format!("{target} is not a node")));
        };
        if self.context.untrusted {
            untrusted::check_node(node)?;
        }
        let mut shells = lock(&self.shells);
        match shells.get(&node.name) {
            Some(shell) if shell.node == *node => Ok(shell.clone()),
            _ => {
                let shell = Arc::new(self.new_shell(node));
                shells.insert(node.name.clone(), shell.clone());
                Ok(shell)
            }
        }
    }

    fn new_shell(&self, node: &Arc<Node>) -> NodeShell {
        self.shell_with(node, |ssh| ssh)
    }

    /// Returns a new shell whose ssh transport is changed by `prepared`.
    fn shell_with(&self, node: &Arc<Node>, prepared: impl FnOnce(Ssh) -> Ssh) -> NodeShell {
        let counters = self.counters.clone();
        let transport: Box<dyn crate::transport::Transport> = match node.transport {
            Transport::Local => Box::new(Local),
            Transport::Ssh => {
                let state_dir = self.context.state_dir.clone();
                let (settings, jump_sockets, servers) =
                    (self.settings.clone(), self.jump_sockets.clone(), self.servers.clone());
                let ssh = Ssh::new(node.clone(), settings, state_dir, counters.clone(), jump_sockets, servers);
                Box::new(prepared(ssh))
            }
        };
        NodeShell::new(node.clone(), transport, self.sessions, counters, &self.context)
    }

    /// Reads the identity of a machine whose host key is not the known one. The machine gets no secret and no rights by sudo, and nothing is changed on it.
    async fn probe(&self, node: &Arc<Node>) -> Result<Identified, ProviderError> {
        let keys = offered_keys(node, &self.context.state_dir, &self.settings).await?;
        let host_keys: Vec<_> = keys.iter().map(HostKey::fingerprint).collect();
        lock(&self.offered_keys).insert(node.name.clone(), keys.clone());
        let unprivileged = Arc::new(Node { sudo: false, ..(**node).clone() });
        let stranger = self.shell_with(&unprivileged, |ssh| ssh.with_host_keys(keys));
        let machine = read_machine(&stranger).await;
        stranger.close().await;
        // A machine that refuses the login has still shown its host keys.
        let machine = machine.unwrap_or_else(|_| machine::observe(node, host_keys, None));
        Ok(Identified { machine, trusted: false })
    }

    /// Returns those host keys of the node that belong to `machine`.
    async fn keys_of(&self, node: &Node, machine: &Machine) -> Result<Vec<HostKey>, ProviderError> {
        let known = lock(&self.offered_keys).get(&node.name).cloned();
        let keys = match known {
            Some(keys) => keys,
            None => offered_keys(node, &self.context.state_dir, &self.settings).await?,
        };
        Ok(keys.into_iter().filter(|key| machine.host_keys.contains(&key.fingerprint())).collect())
    }

    async fn hash_sources<'a>(&self, desired: impl Iterator<Item = (&'a Arc<dyn ResourceType>, &'a Attributes)>) {
        let paths = desired.filter_map(|(kind, attributes)| resource_of(kind).ok()?.source(attributes));
        self.sources.prepare(paths.collect()).await;
    }
}

/// Reads the identity of the machine behind `shell`.
async fn read_machine(shell: &NodeShell) -> Result<Machine, ProviderError> {
    let answers = shell.read(&Script::of(machine::READ), QUICK_LIMIT).await?;
    match answers.into_iter().next() {
        Some(mut answer) => match answer.interrupted.take() {
            Some(error) => Err(error),
            None => Ok(shell.record_machine(&answer)),
        },
        None => Err(ProviderError::new(Class::Failed, "the node returned no answer")),
    }
}

/// Locks `mutex`, even if another holder panicked: the maps behind it are never half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Connection for SshConnection {
    async fn identify(&self, target: &Target) -> Result<Option<Identified>, ProviderError> {
        let shell = self.shell(target)?;
        let machine = match shell.machine() {
            Some(machine) => Ok(machine.clone()),
            None => read_machine(&shell).await,
        };
        match machine {
            Ok(machine) => Ok(Some(Identified { machine, trusted: true })),
            Err(error) if error.class == Class::Identity => self.probe(&shell.node).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn accept_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        let Target::Node(node) = target else { return Ok(()) };
        let keys = self.keys_of(node, machine).await?;
        let shell = Arc::new(self.shell_with(node, |ssh| ssh.with_host_keys(keys)));
        lock(&self.shells).insert(node.name.clone(), shell);
        Ok(())
    }

    async fn trust_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        match target {
            // A host key of the manifest needs no entry in known_hosts.
            Target::Node(node) if node.host_keys.is_empty() => {
                save_keys(node, &self.context.state_dir, &self.keys_of(node, machine).await?)
            }
            _ => Ok(()),
        }
    }

    async fn check_access(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Finding> {
        let Target::Node(node) = target else { return Vec::new() };
        // The login is checked apart from sudo, in one connection.
        let login = self.new_shell(&Arc::new(Node { sudo: false, ..(**node).clone() }));
        let findings = access::check(node, &login, requests).await;
        login.close().await;
        findings
    }

    async fn describe(&self, target: &Target, wanted: &[Existing]) -> Result<Vec<Described>, ProviderError> {
        description::describe(&*self.shell(target)?, wanted, &self.sources).await
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let shell = match self.shell(target) {
            Ok(shell) => shell,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let desired = requests.iter().filter_map(|r| Some((&r.resource_type, r.desired.as_ref()?)));
        self.hash_sources(desired).await;
        reading::read(&shell, requests, &self.sources, self.context.untrusted).await
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        self.hash_sources(requests.iter().map(|r| (&r.resource_type, &r.desired))).await;
        planning::plan(self.shell(target), requests, &self.sources).await
    }

    async fn removal_consequences(
        &self,
        target: &Target,
        requests: &[ReadRequest],
    ) -> Vec<Result<Vec<Consequence>, ProviderError>> {
        planning::removal_consequences(self.shell(target), requests).await
    }

    async fn apply(&self, target: &Target, operations: &[Operation], outcomes: UnboundedSender<Outcome>) {
        let shell = match self.shell(target) {
            Ok(shell) => shell,
            Err(error) => {
                for index in 0..operations.len() {
                    // The receiver is gone only if the whole run has ended.
                    let _ = outcomes.send((index, Err(error.clone())));
                }
                return;
            }
        };
        let desired = operations.iter().filter_map(|operation| match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                Some((&operation.resource_type, desired))
            }
            OperationAction::Delete => None,
        });
        self.hash_sources(desired).await;
        let (sources, progress) = (&self.sources, &self.context.progress);
        Executor { shell: &shell, sources, progress, outcomes: &outcomes }.apply(operations).await;
    }

    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        match self.shell(target) {
            Ok(shell) => reading::read_facts(&shell, requests).await,
            Err(error) => vec![Err(error); requests.len()],
        }
    }

    async fn explain(&self, target: &Target, requests: &[ReadRequest]) -> Vec<String> {
        match self.shell(target) {
            Ok(shell) => reading::explain(&shell, requests).await,
            Err(_) => Vec::new(),
        }
    }

    async fn wait_until_healthy(
        &self,
        target: &Target,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<(), ProviderError> {
        health::wait(&*self.shell(target)?, request, limit, &self.context.progress).await
    }

    fn node_network(&self) -> Option<&dyn NodeNetwork> {
        Some(self)
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("ssh connections", self.counters.connections.load(Ordering::Relaxed)),
            ("ssh execs", self.counters.execs.load(Ordering::Relaxed)),
            ("local execs", self.counters.local_execs.load(Ordering::Relaxed)),
        ]
    }

    async fn close(&self) {
        let shells: Vec<_> = lock(&self.shells).drain().collect();
        for (_, shell) in shells {
            shell.close().await;
        }
    }
}

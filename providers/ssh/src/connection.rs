//! The connection of the SSH provider: one exec reads a node, few execs change it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use moorfast_engine::model::{Attributes, Identified, Machine, Node, NodeName, Transport, Value};
use moorfast_engine::provider::{
    Applied, Class, Connection, Context, DataRequest, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, ReadRequest, ResourceType, Target,
};
use tokio::sync::mpsc::UnboundedSender;
use zeroize::Zeroizing;

use crate::failure::{require_success, shortened};
use crate::findings::Findings;
use crate::look::{Look, ask_further, first_questions};
use crate::machine;
use crate::node_shell::{Counters, NodeShell, Upload};
use crate::preconditions;
use crate::question::{Asked, Question};
use crate::resource::{Resource, ShellTask, facts};
use crate::resource_type::resource_of;
use crate::script::{Script, Section};
use crate::sources::Sources;
use crate::subject::Subject;
use crate::transport::{HostKey, JumpSockets, Local, Servers, Settings, Ssh, offered_keys, save_keys};
use crate::untrusted;
use crate::writes;

/// The default limit of reads and quick operations, and the additional time for each of them.
const QUICK_LIMIT: Duration = Duration::from_secs(120);
const QUICK_SECTION: Duration = Duration::from_millis(100);
/// The default limit of other operations.
const LONG_LIMIT: Duration = Duration::from_secs(600);
/// The pause between two health checks of an object that is not healthy yet.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);
/// The most bytes of script that one exec gets.
const BATCH: usize = 2 << 20;

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

type Outcome = (usize, Result<Applied, ProviderError>);

/// The answer of a section, or why its script failed.
type Answered = Result<Section, ProviderError>;

/// An operation that is ready to run.
struct Job<'a> {
    index: usize,
    operation: &'a Operation,
    resource: &'static dyn Resource,
    subject: Subject,
    task: ShellTask,
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

    fn shell(&self, target: &Target) -> Result<Arc<NodeShell>, ProviderError> {
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
                let data_dir = self.context.data_dir.clone();
                let (settings, jump_sockets, servers) =
                    (self.settings.clone(), self.jump_sockets.clone(), self.servers.clone());
                let ssh = Ssh::new(node.clone(), settings, data_dir, counters.clone(), jump_sockets, servers);
                Box::new(prepared(ssh))
            }
        };
        NodeShell::new(node.clone(), transport, self.sessions, counters, &self.context)
    }

    /// Reads the identity of a machine whose host key is not the known one. The machine gets no secret and no rights by sudo, and nothing is changed on it.
    async fn probe(&self, node: &Arc<Node>) -> Result<Identified, ProviderError> {
        let keys = offered_keys(node, &self.context.data_dir, &self.settings).await?;
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
            None => offered_keys(node, &self.context.data_dir, &self.settings).await?,
        };
        Ok(keys.into_iter().filter(|key| machine.host_keys.contains(&key.fingerprint())).collect())
    }

    async fn hash_sources<'a>(&self, desired: impl Iterator<Item = (&'a Arc<dyn ResourceType>, &'a Attributes)>) {
        let paths = desired.filter_map(|(kind, attributes)| resource_of(kind).ok()?.source(attributes));
        self.sources.prepare(paths.collect()).await;
    }

    /// Adds the obstacles to the proposals that were read together with their objects.
    fn add_obstacles(
        &self,
        target: &Target,
        requests: &[PlanRequest],
        proposals: &mut [Result<Proposal, ProviderError>],
    ) {
        let Ok(shell) = self.shell(target) else { return };
        let mut preconditions = lock(&shell.preconditions);
        for (request, proposal) in requests.iter().zip(proposals.iter()) {
            if let Ok(proposal) = proposal {
                preconditions.plan(request, proposal);
            }
        }
        for (request, proposal) in requests.iter().zip(proposals) {
            if let Ok(proposal) = proposal
                && proposal.action != ProposedAction::NoOp
            {
                let obstacles = preconditions.obstacles(request, proposal);
                proposal.consequences.extend(obstacles);
            }
        }
    }

    /// Adds the side effects of the planned changes to the proposals, with one exec if a change must be simulated.
    async fn simulate(
        &self,
        target: &Target,
        requests: &[PlanRequest],
        proposals: &mut [Result<Proposal, ProviderError>],
    ) {
        let mut script = Script::new();
        let mut simulated = Vec::new();
        for (request, proposal) in requests.iter().zip(proposals) {
            let acts = proposal.as_ref().is_ok_and(|proposal| proposal.action != ProposedAction::NoOp);
            let Some(resource) = resource_of(&request.resource_type).ok().filter(|_| acts) else { continue };
            if let Some(simulation) = resource.simulation(request) {
                script.section(&simulation);
                simulated.push((resource, request, proposal));
            }
        }
        if simulated.is_empty() {
            return;
        }
        let answers = match self.shell(target) {
            Ok(shell) => {
                let answers = per_section(shell.read(&script, quick_limit(simulated.len())).await, simulated.len());
                let what = |(resource, request): (&dyn Resource, &PlanRequest), answer| {
                    let identity = resource.identity(&request.desired).unwrap_or_default();
                    require_success(&shell.node, &format!("simulate {}", identity.replace(':', " ")), answer?)
                        .map_err(shortened)
                };
                let pairs = simulated.iter().map(|(resource, request, _)| (*resource, *request));
                pairs.zip(answers).map(|(pair, answer)| what(pair, answer)).collect()
            }
            Err(error) => vec![Err(error); simulated.len()],
        };
        for ((resource, request, proposal), answer) in simulated.into_iter().zip(answers) {
            match (answer, proposal) {
                (Ok(answer), Ok(proposal)) => resource.add_simulation(request, &answer, proposal),
                // Nothing is changed on a machine that is not approved. The plan after its approval simulates.
                (Err(error), Ok(_)) if error.class == Class::Identity => {}
                (Err(error), proposal) => *proposal = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
    }

    /// Returns the object to read for `request`, or `None` if its identity is unknown.
    fn to_read(&self, request: &ReadRequest) -> Result<Option<(&'static dyn Resource, Subject)>, ProviderError> {
        let resource = resource_of(&request.resource_type)?;
        let subject = Subject::of_read(request);
        if self.context.untrusted {
            untrusted::check_read(resource, &subject.attributes)?;
        }
        Ok(resource.identity(&subject.attributes).map(|_| (resource, subject)))
    }

    fn job<'a>(&self, index: usize, operation: &'a Operation) -> Result<Job<'a>, ProviderError> {
        let resource = resource_of(&operation.resource_type)?;
        let subject = Subject::of_operation(operation);
        let task = resource.apply_script(operation, &subject, &self.sources)?;
        Ok(Job { index, operation, resource, subject, task })
    }

    /// Runs quick operations together in one exec, and reads their results at its end. Files of one directory are written together; those that could not be
    /// written in this way are written one by one after it.
    async fn run_batch(&self, shell: &NodeShell, jobs: Vec<Job<'_>>, outcomes: &UnboundedSender<Outcome>) {
        let limit = longest_limit(jobs.iter().map(|job| job.operation.timeout));
        let writes = jobs.iter().enumerate().filter_map(|(index, job)| Some((index, job.task.write.as_ref()?)));
        let groups = writes::grouped(writes);
        let mut answers: Vec<Option<Answered>> = vec![None; jobs.len()];
        let grouped: HashSet<usize> = groups.iter().flat_map(|group| group.indexes()).collect();
        let alone: Vec<usize> = (0..jobs.len()).filter(|index| !grouped.contains(index)).collect();
        let mut script = Script::new();
        for group in &groups {
            script.section(&group.script());
        }
        for index in &alone {
            script.section(&jobs[*index].body());
        }
        let (sections, findings) = self.run(shell, script, None, limit, &jobs.iter().collect::<Vec<_>>()).await;
        let mut sections = sections.into_iter();
        for (group, section) in groups.iter().zip(&mut sections) {
            match section {
                Ok(section) if section.interrupted.is_none() => {
                    for index in group.written(&section) {
                        answers[index] = Some(Ok(Section::ended(0, [])));
                    }
                }
                failed => group.indexes().for_each(|index| answers[index] = Some(failed.clone())),
            }
        }
        for (index, section) in alone.into_iter().zip(sections) {
            answers[index] = Some(section);
        }
        let (done, left): (Vec<_>, Vec<_>) = jobs.iter().zip(answers).partition(|(_, answer)| answer.is_some());
        let done = done.into_iter().filter_map(|(job, answer)| Some((job, answer?))).collect();
        self.finish(shell, done, findings, outcomes).await;
        if left.is_empty() {
            return;
        }
        let left: Vec<&Job> = left.into_iter().map(|(job, _)| job).collect();
        let mut script = Script::new();
        for job in &left {
            script.section(&job.body());
        }
        let (sections, findings) = self.run(shell, script, None, limit, &left).await;
        self.finish(shell, left.into_iter().zip(sections).collect(), findings, outcomes).await;
    }

    /// Runs `script`, which carries out `jobs`, and then asks the questions about their objects. Returns the answers of its sections.
    async fn run(
        &self,
        shell: &NodeShell,
        mut script: Script,
        upload: Option<Upload>,
        limit: Duration,
        jobs: &[&Job<'_>],
    ) -> (Vec<Answered>, Findings) {
        let count = script.sections();
        let asked = Asked::add(&mut script, jobs.iter().flat_map(|job| job.questions(&self.sources)));
        let (answers, found) = divided(shell.operate(&script, upload, limit).await, count);
        let mut findings = asked.findings(found);
        findings.forget_interrupted();
        (answers, findings)
    }

    /// Reads what is still open about the objects of `jobs`, and sends their outcomes.
    async fn finish(
        &self,
        shell: &NodeShell,
        jobs: Vec<(&Job<'_>, Answered)>,
        mut findings: Findings,
        outcomes: &UnboundedSender<Outcome>,
    ) {
        let looks: Vec<Look> = jobs.iter().filter_map(|(job, answer)| job.look(answer)).collect();
        ask_further(shell, &looks, &self.sources, &mut findings, quick_limit).await;
        for (job, answer) in jobs {
            // The receiver is gone only if the whole run has ended.
            let _ = outcomes.send((job.index, job.finish(&shell.node, answer, &findings, &self.sources)));
        }
    }

    /// Runs an operation in an exec of its own.
    async fn run_alone(&self, shell: &NodeShell, job: Job<'_>, outcomes: &UnboundedSender<Outcome>) {
        let _turn = if job.task.packages { Some(shell.packages.lock().await) } else { None };
        let upload = job.task.upload.as_ref().map(|(path, size)| Upload {
            path: path.clone(),
            size: *size,
            progress: (
                self.context.progress.clone(),
                job.operation.address.clone(),
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            ),
        });
        let script = match (&upload, job.task.packages) {
            (Some(_), _) => Script::receiving(&job.body()),
            (None, true) => Script::unstoppable(&job.body()),
            (None, false) => Script::of(&job.body()),
        };
        let limit = job.operation.timeout.or(job.task.limit).unwrap_or(LONG_LIMIT);
        let (answers, findings) = self.run(shell, script, upload, limit, &[&job]).await;
        self.finish(shell, answers.into_iter().map(|answer| (&job, answer)).collect(), findings, outcomes).await;
    }
}

impl Job<'_> {
    /// Whether the object is read after the operation.
    fn is_read(&self) -> bool {
        !matches!(self.operation.action, OperationAction::Delete)
    }

    /// Returns the questions about the object after the operation.
    fn questions(&self, sources: &Sources) -> Vec<Question> {
        if self.is_read() { first_questions(self.resource, &self.subject, sources) } else { Vec::new() }
    }

    /// Returns the look at the object after the operation, unless the operation failed or removed it.
    fn look<'a>(&'a self, answer: &'a Answered) -> Option<Look<'a>> {
        let own = answer.as_ref().ok().filter(|own| self.is_read() && own.status == Some(0))?;
        Some(Look { resource: self.resource, subject: &self.subject, own })
    }

    fn body(&self) -> Zeroizing<String> {
        match self.is_read() {
            false => self.task.body.clone(),
            true => Zeroizing::new(format!("{}\n{}", *self.task.body, self.resource.read_script(&self.subject))),
        }
    }

    fn description(&self) -> String {
        let verb = match self.operation.action {
            OperationAction::Create(_) => "create",
            OperationAction::Update(_) => "change",
            OperationAction::Delete => "remove",
        };
        let label = label(self.resource, &self.subject);
        match (label.strip_prefix("exec "), verb) {
            (Some(command), "remove") => format!("run `on_destroy` of the command `{command}`"),
            (Some(command), _) => format!("run the command `{command}`"),
            (None, _) => format!("{verb} {label}"),
        }
    }

    fn finish(
        &self,
        node: &Node,
        answer: Answered,
        findings: &Findings,
        sources: &Sources,
    ) -> Result<Applied, ProviderError> {
        let failed = |error| shortened(self.task.secrets.redact_error(self.named_after_operation(node, error)));
        let section = answer.map_err(failed)?;
        let private = self.resource.private(&self.subject, &section);
        let ended = section.status.is_some();
        let read = |section| {
            let look = Look { resource: self.resource, subject: &self.subject, own: &section };
            if self.is_read()
                && let Some(failure) = look.failure(findings, sources)
            {
                require_success(node, &self.description(), failure.clone())?;
            }
            Ok(section)
        };
        let section = require_success(node, &self.description(), section).and_then(read).map_err(|error| {
            // The script may have recorded the state from before the operation, which a later run could no longer read. An interrupted script may have recorded only a part.
            let is_known = self.is_read() && (ended || private != self.subject.private);
            ProviderError { private: is_known.then(|| Box::new(private.clone())), ..failed(error) }
        })?;
        let notes = section.texts("note");
        if !self.is_read() {
            return Ok(Applied { notes, ..Applied::default() });
        }
        let look = Look { resource: self.resource, subject: &self.subject, own: &section };
        let observed = observe(&look, findings, sources)?.ok_or_else(|| {
            let what = label(self.resource, &self.subject);
            ProviderError::new(
                Class::Failed,
                format!("{what} no longer exists on {} right after it was created", node.name),
            )
        })?;
        Ok(Applied { attributes: observed.attributes, private, notes })
    }

    /// Returns the error of a timed-out exec with the name of this operation.
    fn named_after_operation(&self, node: &Node, mut error: ProviderError) -> ProviderError {
        if error.class == Class::Timeout {
            error.summary = format!("cannot {} on {}: {}", self.description(), node.name, error.summary);
        }
        error
    }
}

/// Returns the observed object, with the settings of the last apply. Values that are sensitive in the manifest or in the record are marked sensitive.
fn observe(look: &Look<'_>, findings: &Findings, sources: &Sources) -> Result<Option<Observed>, ProviderError> {
    let Look { resource, subject, .. } = look;
    let Some(mut observed) = resource.observe(subject, &look.answer(findings, sources))? else { return Ok(None) };
    for name in resource.settings() {
        if let Some(value) = subject.setting(name).filter(|value| !value.is_unknown()) {
            observed.attributes.entry((*name).to_owned()).or_insert_with(|| value.clone());
        }
    }
    for (name, value) in &mut observed.attributes {
        if let Some(like) = subject.sensitivity_model(name) {
            *value = marked_sensitive(std::mem::take(value), like);
        }
    }
    Ok(Some(observed))
}

/// Returns `value`, marked sensitive if `like` is sensitive or unknown.
fn marked_sensitive(value: Value, like: &Value) -> Value {
    match (value, like) {
        (value, Value::Sensitive(_) | Value::Unknown) => value.sensitive(),
        (Value::Map(map), Value::Map(likes)) => Value::Map(
            map.into_iter()
                .map(|(key, value)| match likes.get(&key) {
                    Some(like) => (key, marked_sensitive(value, like)),
                    None => (key, value),
                })
                .collect(),
        ),
        (value @ Value::List(_), like @ Value::List(_)) if like.is_sensitive() || like.is_unknown() => {
            value.sensitive()
        }
        (value, _) => value,
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

fn label(resource: &dyn Resource, subject: &Subject) -> String {
    let identity = resource.identity(&subject.attributes).unwrap_or_default();
    match identity.split_once(':') {
        Some(("path", path)) => path.to_owned(),
        Some((kind, name)) => format!("{kind} {name}"),
        None => identity,
    }
}

/// Returns the limit of `count` quick sections that run one after the other.
fn quick_limit(count: usize) -> Duration {
    QUICK_LIMIT + QUICK_SECTION * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns the limit of a script whose sections have these timeouts: the longest one, so that a short timeout does not interrupt the others.
fn longest_limit(timeouts: impl ExactSizeIterator<Item = Option<Duration>>) -> Duration {
    let usual = quick_limit(timeouts.len());
    timeouts.map(|timeout| timeout.unwrap_or(usual)).max().unwrap_or(usual)
}

/// Returns one result per section, and the common error for each of `count` sections if the exec failed.
fn per_section(answers: Result<Vec<Section>, ProviderError>, count: usize) -> Vec<Answered> {
    match answers {
        Ok(sections) => sections.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}

/// Returns the results of the first `count` sections of a script, and the answers of the others.
fn divided(
    answers: Result<Vec<Section>, ProviderError>,
    count: usize,
) -> (Vec<Answered>, Result<Vec<Section>, ProviderError>) {
    match answers {
        Ok(mut sections) => {
            let others = sections.split_off(count.min(sections.len()));
            (sections.into_iter().map(Ok).collect(), Ok(others))
        }
        Err(error) => (vec![Err(error.clone()); count], Err(error)),
    }
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
                save_keys(node, &self.context.data_dir, &self.keys_of(node, machine).await?)
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let shell = match self.shell(target) {
            Ok(shell) => shell,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let desired = requests.iter().filter_map(|r| Some((&r.resource_type, r.desired.as_ref()?)));
        self.hash_sources(desired).await;
        let objects: Vec<_> = requests.iter().map(|request| self.to_read(request)).collect();
        let (mut script, mut questions) = (Script::new(), Vec::new());
        let mut sections = Vec::new();
        for (object, request) in objects.iter().zip(requests) {
            let Ok(Some((resource, subject))) = object else {
                sections.push(None);
                continue;
            };
            let mut own = resource.read_script(subject);
            questions.extend(first_questions(*resource, subject, &self.sources));
            if let Some(desired) = &request.desired {
                own.push_str(&preconditions::read_script(request.resource_type.name(), desired));
                questions.extend(preconditions::questions(request.resource_type.name(), desired));
            }
            sections.push((!own.is_empty()).then(|| script.section(&own)));
        }
        let own_sections = script.sections();
        let asked = Asked::add(&mut script, questions);
        if script.sections() == 0 {
            return objects.into_iter().map(|object| object.map(|_| None)).collect();
        }
        let reads_machine = shell.machine().is_none();
        if reads_machine {
            script.section(machine::READ);
        }
        let (answers, mut found) = divided(shell.read(&script, quick_limit(requests.len())).await, own_sections);
        if reads_machine
            && let Some(answer) = found.as_mut().ok().and_then(Vec::pop)
            && answer.interrupted.is_none()
        {
            shell.record_machine(&answer);
        }
        let mut findings = asked.findings(found);
        let own: Vec<Answered> = sections
            .into_iter()
            .map(|section| match section.and_then(|index| answers.get(index)) {
                Some(answer) => answer.clone(),
                None => Ok(Section::ended(0, [])),
            })
            .collect();
        let looks = objects.iter().zip(&own).filter_map(|(object, own)| {
            let (resource, subject) = object.as_ref().ok()?.as_ref()?;
            let own = own.as_ref().ok().filter(|own| own.status == Some(0))?;
            Some(Look { resource: *resource, subject, own })
        });
        ask_further(&shell, &looks.collect::<Vec<_>>(), &self.sources, &mut findings, quick_limit).await;
        let results = objects.into_iter().zip(own).zip(requests).map(|((object, own), request)| {
            let Some((resource, subject)) = object? else { return Ok(None) };
            let what = format!("read {}", label(resource, &subject));
            let succeeded = |answer| require_success(&shell.node, &what, answer).map_err(shortened);
            let own = succeeded(own?)?;
            let look = Look { resource, subject: &subject, own: &own };
            if let Some(failure) = look.failure(&findings, &self.sources) {
                succeeded(failure.clone())?;
            }
            let observed = observe(&look, &findings, &self.sources);
            if request.desired.is_some() {
                lock(&shell.preconditions).note(&request.address, own);
            }
            observed
        });
        let results = results.collect();
        lock(&shell.preconditions).extend(findings);
        results
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        self.hash_sources(requests.iter().map(|r| (&r.resource_type, &r.desired))).await;
        let plan = |request: &PlanRequest| resource_of(&request.resource_type)?.plan(request, &self.sources);
        let mut proposals: Vec<_> = requests.iter().map(plan).collect();
        self.add_obstacles(target, requests, &mut proposals);
        self.simulate(target, requests, &mut proposals).await;
        proposals
    }

    async fn apply(&self, target: &Target, operations: &[Operation], outcomes: UnboundedSender<Outcome>) {
        let shell = match self.shell(target) {
            Ok(shell) => shell,
            Err(error) => {
                for index in 0..operations.len() {
                    // As in `run_batch`: the receiver is gone only if the whole run has ended.
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
        let (mut batches, mut alone) = (vec![(0, Vec::new())], Vec::new());
        for (index, operation) in operations.iter().enumerate() {
            let job = match self.job(index, operation) {
                Ok(job) => job,
                Err(error) => {
                    let _ = outcomes.send((index, Err(error)));
                    continue;
                }
            };
            if job.task.long {
                alone.push(job);
                continue;
            }
            let size = job.task.body.len();
            match batches.last_mut() {
                Some((length, jobs)) if *length + size <= BATCH => {
                    *length += size;
                    jobs.push(job);
                }
                _ => batches.push((size, vec![job])),
            }
        }
        let mut running = FuturesUnordered::new();
        for (_, jobs) in batches.into_iter().filter(|(_, jobs)| !jobs.is_empty()) {
            running.push(futures::future::Either::Left(self.run_batch(&shell, jobs, &outcomes)));
        }
        for job in alone {
            running.push(futures::future::Either::Right(self.run_alone(&shell, job, &outcomes)));
        }
        while running.next().await.is_some() {}
    }

    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        let shell = match self.shell(target) {
            Ok(shell) => shell,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let mut script = Script::new();
        for _ in requests {
            script.section(&[machine::READ, facts::READ].concat());
        }
        let limit = longest_limit(requests.iter().map(|r| r.timeout));
        per_section(shell.read(&script, limit).await, requests.len())
            .into_iter()
            .map(|answer| Ok(facts::observe(&require_success(&shell.node, "read the facts", answer?)?)))
            .collect()
    }

    async fn explain(&self, target: &Target, requests: &[ReadRequest]) -> Vec<String> {
        let Ok(shell) = self.shell(target) else { return Vec::new() };
        let mut script = Script::new();
        for request in requests {
            let Ok(resource) = resource_of(&request.resource_type) else { continue };
            if let Some(explain) = resource.explain(&Subject::of_read(request)) {
                script.section(&format!("{{ {explain}\n}} | blob explain"));
            }
        }
        if script.sections() == 0 {
            return Vec::new();
        }
        // The explanation is optional: without it the error is shown alone.
        let answers = shell.read(&script, quick_limit(script.sections())).await.unwrap_or_default();
        let texts = answers.iter().filter_map(|section| section.text("explain"));
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    async fn wait_until_healthy(
        &self,
        target: &Target,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<(), ProviderError> {
        let resource = resource_of(&request.resource_type)?;
        let subject = Subject::of_read(request);
        let Some(health) = resource.health(&subject) else {
            return Err(ProviderError::new(
                Class::Invalid,
                format!("{} has no health check", request.resource_type.name()),
            ));
        };
        let shell = self.shell(target)?;
        let (what, end) = (label(resource, &subject), Instant::now() + limit);
        loop {
            let answer = per_section(shell.read(&Script::of(&health), QUICK_LIMIT).await, 1).pop();
            let answer =
                answer.unwrap_or_else(|| Err(ProviderError::new(Class::Failed, "the node returned no answer")))?;
            let ill = match require_success(&shell.node, &format!("check the health of {what}"), answer) {
                Ok(_) => return Ok(()),
                Err(ill) => ill,
            };
            self.context.progress.report(&request.address, ill.summary.clone());
            if Instant::now() + HEALTH_PAUSE > end {
                return Err(ProviderError { class: Class::Timeout, ..ill });
            }
            tokio::time::sleep(HEALTH_PAUSE).await;
        }
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("ssh connections", self.counters.connections.load(Ordering::Relaxed)),
            ("ssh execs", self.counters.execs.load(Ordering::Relaxed)),
        ]
    }

    async fn close(&self) {
        let shells: Vec<_> = lock(&self.shells).drain().collect();
        for (_, shell) in shells {
            shell.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_timeout_does_not_interrupt_the_others() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(longest_limit([seconds(1), None].into_iter()), quick_limit(2));
        assert_eq!(longest_limit([seconds(1), seconds(5)].into_iter()), Duration::from_secs(5));
        assert_eq!(longest_limit([seconds(900), None].into_iter()), Duration::from_secs(900));
        assert!(quick_limit(5000) >= Duration::from_secs(600));
    }
}

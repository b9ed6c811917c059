//! The provider at work: one exec reads a node, few execs change it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use moorfast_engine::model::{Attributes, Identified, Machine, Node, NodeName, Transport, Value};
use moorfast_engine::provider::{
    Applied, Class, Connection, Context, DataRequest, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, ReadRequest, Target,
};
use tokio::sync::mpsc::UnboundedSender;
use zeroize::Zeroizing;

use crate::failure::{bounded, checked};
use crate::ground;
use crate::link::{Counters, Link, Upload};
use crate::machine;
use crate::resource::{self, Resource, Step, facts};
use crate::script::{Script, Section};
use crate::sources::Sources;
use crate::subject::Subject;
use crate::transport::{Hops, HostKey, Local, Servers, Settings, Ssh, keep, shown};
use crate::untrusted;

/// How long looks and quick operations may take, where the manifest does not say, and how much longer for each of them.
const QUICK_LIMIT: Duration = Duration::from_secs(120);
const QUICK_SECTION: Duration = Duration::from_millis(100);
/// How long other operations may take, where the manifest does not say.
const LONG_LIMIT: Duration = Duration::from_secs(600);
/// How soon an object that is not healthy is looked at again.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);
/// How many bytes of script go into one exec.
const BATCH: usize = 2 << 20;

/// The configured provider.
pub(crate) struct SshConnection {
    context: Context,
    settings: Settings,
    sessions: usize,
    links: Mutex<HashMap<NodeName, Arc<Link>>>,
    /// The host keys that machines showed which are not the known ones.
    strangers: Mutex<HashMap<NodeName, Vec<HostKey>>>,
    sources: Arc<Sources>,
    counters: Arc<Counters>,
    hops: Arc<Hops>,
    servers: Arc<Servers>,
}

type Outcome = (usize, Result<Applied, ProviderError>);

/// One operation that is ready to go.
struct Job<'a> {
    index: usize,
    operation: &'a Operation,
    resource: &'static dyn Resource,
    subject: Subject,
    step: Step,
}

impl SshConnection {
    pub(crate) fn new(config: &Attributes, context: Context) -> Result<Self, ProviderError> {
        if context.untrusted {
            untrusted::check_config(config)?;
        }
        let sessions = config.get("sessions").and_then(Value::as_i64).unwrap_or(8);
        let sessions = usize::try_from(sessions).ok().filter(|n| *n > 0).ok_or_else(|| {
            ProviderError::new(Class::Invalid, format!("{sessions} sessions per node are none")).attribute("sessions")
        })?;
        Ok(Self {
            settings: Settings::new(config, &context.root),
            sessions,
            links: Mutex::default(),
            strangers: Mutex::default(),
            sources: Arc::new(Sources::new(&context)),
            counters: Arc::default(),
            hops: Arc::default(),
            servers: Arc::default(),
            context,
        })
    }

    fn link(&self, target: &Target) -> Result<Arc<Link>, ProviderError> {
        let Target::Node(node) = target else {
            return Err(ProviderError::new(Class::Invalid, format!("{target} is not a node")));
        };
        if self.context.untrusted {
            untrusted::check_node(node)?;
        }
        let mut links = lock(&self.links);
        match links.get(&node.name) {
            Some(link) if link.node == *node => Ok(link.clone()),
            _ => {
                let link = Arc::new(self.new_link(node));
                links.insert(node.name.clone(), link.clone());
                Ok(link)
            }
        }
    }

    fn new_link(&self, node: &Arc<Node>) -> Link {
        self.link_by(node, |ssh| ssh)
    }

    /// A new link; `prepared` has the last word on how ssh goes about it.
    fn link_by(&self, node: &Arc<Node>, prepared: impl FnOnce(Ssh) -> Ssh) -> Link {
        let counters = self.counters.clone();
        let transport: Box<dyn crate::transport::Transport> = match node.transport {
            Transport::Local => Box::new(Local),
            Transport::Ssh => {
                let data_dir = self.context.data_dir.clone();
                let (settings, hops, servers) = (self.settings.clone(), self.hops.clone(), self.servers.clone());
                let ssh = Ssh::new(node.clone(), settings, data_dir, counters.clone(), hops, servers);
                Box::new(prepared(ssh))
            }
        };
        Link::new(node.clone(), transport, self.sessions, counters, &self.context)
    }

    /// Asks a machine that is not the known one who it is. It gets no secret, no rights by sudo, and nothing is done there.
    async fn probe(&self, node: &Arc<Node>) -> Result<Identified, ProviderError> {
        let keys = shown(node, &self.context.data_dir, &self.settings).await?;
        let host_keys: Vec<_> = keys.iter().map(HostKey::fingerprint).collect();
        lock(&self.strangers).insert(node.name.clone(), keys.clone());
        let unprivileged = Arc::new(Node { sudo: false, ..(**node).clone() });
        let stranger = self.link_by(&unprivileged, |ssh| ssh.accepting(keys));
        let told = meet(&stranger).await;
        stranger.close().await;
        // One that lets nobody in has shown its keys all the same.
        let machine = told.unwrap_or_else(|_| machine::observe(node, host_keys, None));
        Ok(Identified { machine, trusted: false })
    }

    /// The host keys by which `machine` was identified.
    async fn keys_of(&self, node: &Node, machine: &Machine) -> Result<Vec<HostKey>, ProviderError> {
        let known = lock(&self.strangers).get(&node.name).cloned();
        let keys = match known {
            Some(keys) => keys,
            None => shown(node, &self.context.data_dir, &self.settings).await?,
        };
        Ok(keys.into_iter().filter(|key| machine.host_keys.contains(&key.fingerprint())).collect())
    }

    async fn prepare<'a>(&self, wanted: impl Iterator<Item = (&'a str, &'a Attributes)>) {
        let paths = wanted.filter_map(|(kind, attributes)| resource::named(kind)?.source(attributes));
        self.sources.prepare(paths.collect()).await;
    }

    /// Adds to the proposals what is in the way of them, as it was read with their objects.
    fn survey(&self, target: &Target, requests: &[PlanRequest], proposals: &mut [Result<Proposal, ProviderError>]) {
        let Ok(link) = self.link(target) else { return };
        let mut grounds = lock(&link.grounds);
        for (request, proposal) in requests.iter().zip(proposals.iter()) {
            if let Ok(proposal) = proposal {
                grounds.plan(request, proposal);
            }
        }
        for (request, proposal) in requests.iter().zip(proposals) {
            if let Ok(proposal) = proposal
                && proposal.action != ProposedAction::NoOp
            {
                let obstacles = grounds.obstacles(request, proposal);
                proposal.consequences.extend(obstacles);
            }
        }
    }

    /// Adds to the proposals what their changes would do beyond the objects themselves: one exec, where a change has to be rehearsed.
    async fn rehearse(
        &self,
        target: &Target,
        requests: &[PlanRequest],
        proposals: &mut [Result<Proposal, ProviderError>],
    ) {
        let mut script = Script::new();
        let mut rehearsed = Vec::new();
        for (request, proposal) in requests.iter().zip(proposals) {
            let acts = proposal.as_ref().is_ok_and(|proposal| proposal.action != ProposedAction::NoOp);
            let Some(resource) = resource::named(&request.resource_type).filter(|_| acts) else { continue };
            if let Some(rehearsal) = resource.rehearsal(request) {
                script.section(&rehearsal);
                rehearsed.push((resource, request, proposal));
            }
        }
        if rehearsed.is_empty() {
            return;
        }
        let answers = match self.link(target) {
            Ok(link) => {
                let answers = each(link.look(&script, quick(rehearsed.len())).await, rehearsed.len());
                let what = |(resource, request): (&dyn Resource, &PlanRequest), answer| {
                    let identity = resource.identity(&request.desired).unwrap_or_default();
                    checked(&link.node, &format!("rehearse {}", identity.replace(':', " ")), answer?).map_err(bounded)
                };
                let pairs = rehearsed.iter().map(|(resource, request, _)| (*resource, *request));
                pairs.zip(answers).map(|(pair, answer)| what(pair, answer)).collect()
            }
            Err(error) => vec![Err(error); rehearsed.len()],
        };
        for ((resource, request, proposal), answer) in rehearsed.into_iter().zip(answers) {
            match (answer, proposal) {
                (Ok(seen), Ok(proposal)) => resource.foresee(request, &seen, proposal),
                // Nothing is asked of a machine that is not approved, and nothing is done there: the plan after its approval rehearses.
                (Err(error), Ok(_)) if error.class == Class::Identity => {}
                (Err(error), proposal) => *proposal = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
    }

    fn job<'a>(&self, index: usize, operation: &'a Operation) -> Result<Job<'a>, ProviderError> {
        let resource = known(&operation.resource_type)?;
        let subject = Subject::of_operation(operation);
        let step = resource.act(operation, &subject, &self.sources)?;
        Ok(Job { index, operation, resource, subject, step })
    }

    /// Runs quick operations together.
    async fn run_batch(&self, link: &Link, jobs: Vec<Job<'_>>, outcomes: &UnboundedSender<Outcome>) {
        let mut script = Script::new();
        for job in &jobs {
            script.section(&job.body());
        }
        let limit = longest(jobs.iter().map(|job| job.operation.timeout));
        let answers = each(link.operate(&script, None, limit).await, jobs.len());
        for (job, answer) in jobs.iter().zip(answers) {
            // Nobody is left to hear it only where the whole run is over.
            let _ = outcomes.send((job.index, job.finish(&link.node, answer)));
        }
    }

    /// Runs an operation that has an exec of its own.
    async fn run_alone(&self, link: &Link, job: Job<'_>, outcomes: &UnboundedSender<Outcome>) {
        let _turn = if job.step.packages { Some(link.packages.lock().await) } else { None };
        let upload = job.step.upload.as_ref().map(|(path, size)| Upload {
            path: path.clone(),
            size: *size,
            progress: (
                self.context.progress.clone(),
                job.operation.address.clone(),
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            ),
        });
        let script = match (&upload, job.step.packages) {
            (Some(_), _) => Script::receiving(&job.body()),
            (None, true) => Script::unstoppable(&job.body()),
            (None, false) => Script::of(&job.body()),
        };
        let limit = job.operation.timeout.or(job.step.limit).unwrap_or(LONG_LIMIT);
        let answer = each(link.operate(&script, upload, limit).await, 1).pop();
        let answer = answer.unwrap_or_else(|| Err(ProviderError::new(Class::Failed, "there was no answer")));
        // As above.
        let _ = outcomes.send((job.index, job.finish(&link.node, answer)));
    }
}

impl Job<'_> {
    fn body(&self) -> Zeroizing<String> {
        match self.operation.action {
            OperationAction::Delete => self.step.body.clone(),
            _ => Zeroizing::new(format!("{}\n{}", *self.step.body, self.resource.look(&self.subject))),
        }
    }

    fn what(&self) -> String {
        let verb = match self.operation.action {
            OperationAction::Create(_) => "create",
            OperationAction::Update(_) => "change",
            OperationAction::Delete => "remove",
        };
        format!("{verb} {}", label(self.resource, &self.subject))
    }

    fn finish(&self, node: &Node, answer: Result<Section, ProviderError>) -> Result<Applied, ProviderError> {
        let failed = |error| bounded(self.step.secrets.cut_from(self.named(node, error)));
        let section = answer.map_err(failed)?;
        let private = self.resource.private(&self.subject, &section);
        let ended = section.status.is_some();
        let section = checked(node, &self.what(), section).map_err(|error| {
            // What was done until then is known, and must not be taken for what was there before. Where it was cut off that may not be all.
            let deletes = matches!(self.operation.action, OperationAction::Delete);
            let is_known = !deletes && (ended || private != self.subject.private);
            ProviderError { private: is_known.then(|| Box::new(private.clone())), ..failed(error) }
        })?;
        let notes = section.texts("note");
        if matches!(self.operation.action, OperationAction::Delete) {
            return Ok(Applied { notes, ..Applied::default() });
        }
        let observed = observe(self.resource, &self.subject, &section)?.ok_or_else(|| {
            let what = label(self.resource, &self.subject);
            ProviderError::new(Class::Failed, format!("{what} is gone from {} right after it was made", node.name))
        })?;
        Ok(Applied { attributes: observed.attributes, private, notes })
    }

    /// The failure of an exec, as that of this operation.
    fn named(&self, node: &Node, mut error: ProviderError) -> ProviderError {
        if error.class == Class::Timeout {
            error.summary = format!("cannot {} on {}: {}", self.what(), node.name, error.summary);
        }
        error
    }
}

/// What is there, with settings as they were applied, and marked where the manifest or the memory of it hides a value.
fn observe(resource: &dyn Resource, subject: &Subject, section: &Section) -> Result<Option<Observed>, ProviderError> {
    let Some(mut observed) = resource.observe(subject, section)? else { return Ok(None) };
    for name in resource.settings() {
        if let Some(value) = subject.setting(name).filter(|value| !value.is_unknown()) {
            observed.attributes.entry((*name).to_owned()).or_insert_with(|| value.clone());
        }
    }
    for (name, value) in &mut observed.attributes {
        if let Some(like) = subject.model(name) {
            *value = veiled(std::mem::take(value), like);
        }
    }
    Ok(Some(observed))
}

/// `value`, sensitive where `like` is or may turn out to be.
fn veiled(value: Value, like: &Value) -> Value {
    match (value, like) {
        (value, Value::Sensitive(_) | Value::Unknown) => value.sensitive(),
        (Value::Map(map), Value::Map(likes)) => Value::Map(
            map.into_iter()
                .map(|(key, value)| match likes.get(&key) {
                    Some(like) => (key, veiled(value, like)),
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

/// Asks who it is.
async fn meet(link: &Link) -> Result<Machine, ProviderError> {
    let answers = link.look(&Script::of(machine::LOOK), QUICK_LIMIT).await?;
    match answers.into_iter().next() {
        Some(mut said) => match said.cut_off.take() {
            Some(error) => Err(error),
            None => Ok(link.meet(&said)),
        },
        None => Err(ProviderError::new(Class::Failed, "there was no answer")),
    }
}

/// What is behind `mutex`, also where somebody who held it panicked: a map is whole at any moment.
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

fn known(resource_type: &str) -> Result<&'static dyn Resource, ProviderError> {
    resource::named(resource_type)
        .ok_or_else(|| ProviderError::new(Class::Invalid, format!("there is no resource type {resource_type}")))
}

/// How long `count` quick things may take one after the other.
fn quick(count: usize) -> Duration {
    QUICK_LIMIT + QUICK_SECTION * u32::try_from(count).unwrap_or(u32::MAX)
}

/// How long a script may take whose parts have these timeouts: one that is short does not cut off the others.
fn longest(timeouts: impl ExactSizeIterator<Item = Option<Duration>>) -> Duration {
    let usual = quick(timeouts.len());
    timeouts.map(|timeout| timeout.unwrap_or(usual)).max().unwrap_or(usual)
}

/// One answer for each of `count`, also where all failed together.
fn each(answers: Result<Vec<Section>, ProviderError>, count: usize) -> Vec<Result<Section, ProviderError>> {
    match answers {
        Ok(sections) => sections.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}

#[async_trait]
impl Connection for SshConnection {
    async fn identify(&self, target: &Target) -> Result<Option<Identified>, ProviderError> {
        let link = self.link(target)?;
        let machine = match link.machine() {
            Some(machine) => Ok(machine.clone()),
            None => meet(&link).await,
        };
        match machine {
            Ok(machine) => Ok(Some(Identified { machine, trusted: true })),
            Err(error) if error.class == Class::Identity => self.probe(&link.node).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn accept_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        let Target::Node(node) = target else { return Ok(()) };
        let keys = self.keys_of(node, machine).await?;
        let link = Arc::new(self.link_by(node, |ssh| ssh.accepting(keys)));
        lock(&self.links).insert(node.name.clone(), link);
        Ok(())
    }

    async fn trust_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        match target {
            // A key in the manifest is remembered there.
            Target::Node(node) if node.host_keys.is_empty() => {
                keep(node, &self.context.data_dir, &self.keys_of(node, machine).await?)
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let link = match self.link(target) {
            Ok(link) => link,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let mut script = Script::new();
        let mut asked = Vec::new();
        for request in requests {
            asked.push(known(&request.resource_type).and_then(|resource| {
                let subject = Subject::of_read(resource, request);
                if self.context.untrusted {
                    untrusted::check_look(resource, &subject.attributes)?;
                }
                let section = resource.identity(&subject.attributes).map(|_| {
                    let ground = request.desired.as_ref().map(|desired| ground::look(&request.resource_type, desired));
                    script.section(&(resource.look(&subject) + &ground.unwrap_or_default()));
                    script.sections() - 1
                });
                Ok((resource, subject, section))
            }));
        }
        let meets = link.machine().is_none() && script.sections() > 0;
        if meets {
            script.section(machine::LOOK);
        }
        let mut answers = match script.sections() {
            0 => Vec::new(),
            count => each(link.look(&script, quick(count)).await, count),
        };
        if meets
            && let Some(Ok(said)) = answers.pop()
            && said.cut_off.is_none()
        {
            link.meet(&said);
        }
        let answer = |section: Option<usize>| section.and_then(|index| answers.get(index)).cloned();
        asked
            .into_iter()
            .zip(requests)
            .map(|(asked, request)| {
                let (resource, subject, section) = asked?;
                let Some(answer) = answer(section) else { return Ok(None) };
                let section =
                    checked(&link.node, &format!("read {}", label(resource, &subject)), answer?).map_err(bounded)?;
                if request.desired.is_some() {
                    lock(&link.grounds).note(&request.address, &section);
                }
                observe(resource, &subject, &section)
            })
            .collect()
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        self.prepare(requests.iter().map(|r| (r.resource_type.as_str(), &r.desired))).await;
        let plan = |request: &PlanRequest| known(&request.resource_type)?.plan(request, &self.sources);
        let mut proposals: Vec<_> = requests.iter().map(plan).collect();
        self.survey(target, requests, &mut proposals);
        self.rehearse(target, requests, &mut proposals).await;
        proposals
    }

    async fn apply(&self, target: &Target, operations: &[Operation], outcomes: UnboundedSender<Outcome>) {
        let link = match self.link(target) {
            Ok(link) => link,
            Err(error) => {
                for index in 0..operations.len() {
                    // As everywhere: nobody is left to hear it only where the whole run is over.
                    let _ = outcomes.send((index, Err(error.clone())));
                }
                return;
            }
        };
        let wanted = operations.iter().filter_map(|operation| match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                Some((operation.resource_type.as_str(), desired))
            }
            OperationAction::Delete => None,
        });
        self.prepare(wanted).await;
        let (mut batches, mut alone) = (vec![(0, Vec::new())], Vec::new());
        for (index, operation) in operations.iter().enumerate() {
            let job = match self.job(index, operation) {
                Ok(job) => job,
                Err(error) => {
                    let _ = outcomes.send((index, Err(error)));
                    continue;
                }
            };
            if job.step.long {
                alone.push(job);
                continue;
            }
            let size = job.step.body.len();
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
            running.push(futures::future::Either::Left(self.run_batch(&link, jobs, &outcomes)));
        }
        for job in alone {
            running.push(futures::future::Either::Right(self.run_alone(&link, job, &outcomes)));
        }
        while running.next().await.is_some() {}
    }

    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        let link = match self.link(target) {
            Ok(link) => link,
            Err(error) => return vec![Err(error); requests.len()],
        };
        let mut script = Script::new();
        for request in requests {
            match request.data_source.as_str() {
                "ssh_facts" => script.section(&[machine::LOOK, facts::LOOK].concat()),
                other => script.section(&format!("fail invalid 'there is no data source {other}'")),
            }
        }
        let limit = longest(requests.iter().map(|r| r.timeout));
        each(link.look(&script, limit).await, requests.len())
            .into_iter()
            .map(|answer| Ok(facts::observe(&checked(&link.node, "read the facts", answer?)?)))
            .collect()
    }

    async fn explain(&self, target: &Target, requests: &[ReadRequest]) -> Vec<String> {
        let Ok(link) = self.link(target) else { return Vec::new() };
        let mut script = Script::new();
        for request in requests {
            let Ok(resource) = known(&request.resource_type) else { continue };
            if let Some(explain) = resource.explain(&Subject::of_read(resource, request)) {
                script.section(&format!("{{ {explain}\n}} | blob explain"));
            }
        }
        if script.sections() == 0 {
            return Vec::new();
        }
        // It only adds to an error: where it can't be had, the error stands alone.
        let answers = link.look(&script, quick(script.sections())).await.unwrap_or_default();
        let texts = answers.iter().filter_map(|section| section.text("explain"));
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    async fn wait_until_healthy(
        &self,
        target: &Target,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<(), ProviderError> {
        let resource = known(&request.resource_type)?;
        let subject = Subject::of_read(resource, request);
        let Some(health) = resource.health(&subject) else {
            return Err(ProviderError::new(Class::Invalid, format!("{} has no health", request.resource_type)));
        };
        let link = self.link(target)?;
        let (what, end) = (label(resource, &subject), Instant::now() + limit);
        loop {
            let answer = each(link.look(&Script::of(&health), QUICK_LIMIT).await, 1).pop();
            let answer = answer.unwrap_or_else(|| Err(ProviderError::new(Class::Failed, "there was no answer")))?;
            let ill = match checked(&link.node, &format!("find {what} healthy"), answer) {
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
        let links: Vec<_> = lock(&self.links).drain().collect();
        for (_, link) in links {
            link.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_timeout_does_not_cut_off_the_others() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(longest([seconds(1), None].into_iter()), quick(2));
        assert_eq!(longest([seconds(1), seconds(5)].into_iter()), Duration::from_secs(5));
        assert_eq!(longest([seconds(900), None].into_iter()), Duration::from_secs(900));
        assert!(quick(5000) >= Duration::from_secs(600));
    }
}

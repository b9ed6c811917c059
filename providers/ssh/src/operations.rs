//! The operations on a node: few execs carry them out, and read their objects afterwards.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use moorfast_engine::model::Node;
use moorfast_engine::provider::{Applied, Class, Operation, OperationAction, Progress, ProviderError};
use tokio::sync::mpsc::UnboundedSender;
use zeroize::Zeroizing;

use crate::asked::Asked;
use crate::failure::{require_success, shortened};
use crate::findings::Findings;
use crate::limits::{LONG_LIMIT, longest_limit};
use crate::look::{Look, ask_further, first_questions};
use crate::node_shell::{NodeShell, Upload};
use crate::question::Question;
use crate::reading::observe;
use crate::resource::{Resource, ShellTask, label};
use crate::resource_type::resource_of;
use crate::script::{Answered, Script, Section, divided, per_section};
use crate::sources::Sources;
use crate::subject::Subject;
use crate::writes::{self, Group};

/// The most bytes of script that one exec gets.
const BATCH: usize = 2 << 20;

/// The index of an operation, and its result.
pub(crate) type Outcome = (usize, Result<Applied, ProviderError>);

/// Carries out operations on one node.
pub(crate) struct Executor<'a> {
    /// The node.
    pub(crate) shell: &'a NodeShell,
    /// The local files that are sent to nodes.
    pub(crate) sources: &'a Sources,
    /// The receiver of the progress of uploads.
    pub(crate) progress: &'a Progress,
    /// The receiver of the results.
    pub(crate) outcomes: &'a UnboundedSender<Outcome>,
}

/// An operation that is ready to run.
struct Job<'a> {
    index: usize,
    operation: &'a Operation,
    resource: &'static dyn Resource,
    subject: Subject,
    task: ShellTask,
}

/// An exec that carries out jobs. Its script has a section for each of `groups`, and then one for each job that is in no group.
struct Exec<'a> {
    jobs: Vec<&'a Job<'a>>,
    /// The jobs whose files are written together, by their indexes in `jobs`.
    groups: Vec<Group<'a>>,
    script: Script,
    upload: Option<Upload>,
    limit: Duration,
}

impl Executor<'_> {
    /// Carries out `operations` and sends their outcomes.
    pub(crate) async fn apply(&self, operations: &[Operation]) {
        let (mut quick, mut long) = (Vec::new(), Vec::new());
        for (index, operation) in operations.iter().enumerate() {
            match Job::of(index, operation, self.sources) {
                Ok(job) if job.task.long => long.push(job),
                Ok(job) => quick.push(job),
                Err(error) => self.send(index, Err(error)),
            }
        }
        let mut running = FuturesUnordered::new();
        for jobs in batches(quick) {
            running.push(Either::Left(self.run_batch(jobs)));
        }
        for job in long {
            running.push(Either::Right(self.run_alone(job)));
        }
        while running.next().await.is_some() {}
    }

    /// Runs quick operations together in one exec, and reads their results at its end. Files of one directory are written together; those that could not be
    /// written in this way are written one by one after it.
    async fn run_batch(&self, jobs: Vec<Job<'_>>) {
        let limit = longest_limit(jobs.iter().map(|job| job.operation.timeout));
        let left = self.run(Exec::grouped(jobs.iter().collect(), limit)).await;
        if !left.is_empty() {
            self.run(Exec::one_by_one(left, limit)).await;
        }
    }

    /// Runs an operation in an exec of its own.
    async fn run_alone(&self, job: Job<'_>) {
        let _turn = if job.task.packages { Some(self.shell.packages.lock().await) } else { None };
        let upload = job.task.upload.as_ref().map(|source| Upload {
            source: source.clone(),
            progress: (
                self.progress.clone(),
                job.operation.address.clone(),
                source.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            ),
        });
        let limit = job.operation.timeout.or(job.task.limit).unwrap_or(LONG_LIMIT);
        if let Some(after) = &job.task.after_boot {
            return self.reboot(&job, after, limit).await;
        }
        let script = match (&upload, job.task.packages) {
            (Some(_), _) => Script::receiving(&job.body()),
            (None, true) => Script::unstoppable(&job.body()),
            (None, false) => Script::of(&job.body()),
        };
        self.run(Exec { jobs: vec![&job], groups: Vec::new(), script, upload, limit }).await;
    }

    /// Carries out an operation that may reboot the machine, and reads its result after the boot.
    async fn reboot(&self, job: &Job<'_>, after: &str, limit: Duration) {
        let request = Script::of(&job.task.body);
        let after = Script::of(&format!("{after}{}", job.resource.read_script(&job.subject)));
        let report_wait = || {
            self.progress.report(&job.operation.address, "waiting until the machine has booted again".to_owned());
        };
        let answers = self.shell.reboot(&request, &after, limit, report_wait).await;
        if let Some(answer) = per_section(answers, 1).pop() {
            self.send(job.index, job.finish(&self.shell.node, answer, &Findings::default(), self.sources));
        }
    }

    /// Runs an exec, reads the objects of its jobs, and sends their outcomes. Returns the jobs that their group did not carry out.
    async fn run<'a>(&self, exec: Exec<'a>) -> Vec<&'a Job<'a>> {
        let Exec { jobs, groups, mut script, upload, limit } = exec;
        let count = script.sections();
        let asked = Asked::add(&mut script, jobs.iter().flat_map(|job| job.questions(self.sources)));
        let (sections, found) = divided(self.shell.operate(&script, upload, limit).await, count);
        let mut findings = asked.findings(found);
        findings.forget_interrupted();
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for (job, answer) in jobs.iter().zip(answers(jobs.len(), &groups, sections)) {
            match answer {
                Some(answer) => done.push((*job, answer)),
                None => left.push(*job),
            }
        }
        let looks: Vec<Look> = done.iter().filter_map(|(job, answer)| job.look(answer)).collect();
        ask_further(self.shell, &looks, self.sources, &mut findings).await;
        for (job, answer) in done {
            self.send(job.index, job.finish(&self.shell.node, answer, &findings, self.sources));
        }
        left
    }

    fn send(&self, index: usize, result: Result<Applied, ProviderError>) {
        // The receiver is gone only if the whole run has ended.
        let _ = self.outcomes.send((index, result));
    }
}

/// Divides quick jobs into batches of at most [`BATCH`] bytes, each for one exec. A larger job is a batch of its own.
fn batches(jobs: Vec<Job<'_>>) -> Vec<Vec<Job<'_>>> {
    let mut batches: Vec<(usize, Vec<Job>)> = Vec::new();
    for job in jobs {
        let size = job.task.body.len();
        match batches.last_mut() {
            Some((length, jobs)) if *length + size <= BATCH => {
                *length += size;
                jobs.push(job);
            }
            _ => batches.push((size, vec![job])),
        }
    }
    batches.into_iter().map(|(_, jobs)| jobs).collect()
}

impl<'a> Exec<'a> {
    /// Returns the exec that writes files of one directory together.
    fn grouped(jobs: Vec<&'a Job<'a>>, limit: Duration) -> Self {
        let writes = jobs.iter().enumerate().filter_map(|(index, job)| Some((index, job.task.write.as_ref()?)));
        let groups = writes::grouped(writes);
        Self::with_groups(jobs, groups, limit)
    }

    /// Returns the exec that carries out each job by itself.
    fn one_by_one(jobs: Vec<&'a Job<'a>>, limit: Duration) -> Self {
        Self::with_groups(jobs, Vec::new(), limit)
    }

    fn with_groups(jobs: Vec<&'a Job<'a>>, groups: Vec<Group<'a>>, limit: Duration) -> Self {
        let mut script = Script::new();
        for group in &groups {
            script.section(&group.script());
        }
        for index in ungrouped(jobs.len(), &groups) {
            script.section(&jobs[index].body());
        }
        Self { jobs, groups, script, upload: None, limit }
    }
}

/// Returns the indexes of those of `count` jobs that are in no group.
fn ungrouped(count: usize, groups: &[Group<'_>]) -> Vec<usize> {
    let grouped: HashSet<usize> = groups.iter().flat_map(|group| group.indexes()).collect();
    (0..count).filter(|index| !grouped.contains(index)).collect()
}

/// Returns the answers of `count` jobs from the sections of their script, with `None` for a job that its group did not carry out.
fn answers(count: usize, groups: &[Group<'_>], sections: Vec<Answered>) -> Vec<Option<Answered>> {
    let mut answers: Vec<Option<Answered>> = vec![None; count];
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
    for (index, section) in ungrouped(count, groups).into_iter().zip(sections) {
        answers[index] = Some(section);
    }
    answers
}

impl<'a> Job<'a> {
    fn of(index: usize, operation: &'a Operation, sources: &Sources) -> Result<Self, ProviderError> {
        let resource = resource_of(&operation.resource_type)?;
        let mut subject = Subject::of_operation(operation);
        if let OperationAction::Create(desired) | OperationAction::Update(desired) = &operation.action {
            let initial = resource.initial_private_data(desired, operation.observed.as_ref());
            subject.initial_private = initial.unwrap_or_default();
        }
        let task = resource.apply_script(operation, &subject, sources)?;
        Ok(Self { index, operation, resource, subject, task })
    }

    /// Whether the object is read after the operation.
    fn is_read(&self) -> bool {
        !matches!(self.operation.action, OperationAction::Delete)
    }

    /// Returns the questions about the object after the operation that its body does not answer.
    fn questions(&self, sources: &Sources) -> Vec<Question> {
        if !self.is_read() {
            return Vec::new();
        }
        let mut questions = first_questions(self.resource, &self.subject, sources);
        questions.retain(|question| !self.task.answers.contains(&question.topic));
        questions
    }

    /// Returns the look at the object after the operation, unless the operation failed or removed it.
    fn look<'b>(&'b self, answer: &'b Answered) -> Option<Look<'b>> {
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
        let failed = |error| shortened(self.task.secrets.error(self.named_after_operation(node, error)));
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

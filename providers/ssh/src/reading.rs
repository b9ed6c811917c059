//! The reading of a node: its objects, its facts, and the messages that explain a failure.

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{DataRequest, Observed, ProviderError, ReadRequest};

use crate::asked::Asked;
use crate::failure::{require_success, shortened};
use crate::findings::Findings;
use crate::limits::{longest_limit, quick_limit};
use crate::look::{Look, ask_further, first_questions};
use crate::machine;
use crate::node_shell::NodeShell;
use crate::preconditions;
use crate::question::Question;
use crate::resource::{Resource, facts, label};
use crate::resource_type::resource_of;
use crate::script::{Answered, Script, Section, divided, per_section};
use crate::sources::Sources;
use crate::subject::Subject;
use crate::untrusted;

/// An object to read.
struct Object<'a> {
    request: &'a ReadRequest,
    resource: &'static dyn Resource,
    subject: Subject,
}

/// The object of a request, or `None` if its identity is unknown.
type Requested<'a> = Result<Option<Object<'a>>, ProviderError>;

/// A script that reads objects.
struct Reading {
    script: Script,
    /// The section with the own shell of each object, if it has any. These sections come first.
    own: Vec<Option<usize>>,
    asked: Asked,
}

/// Reads the objects of `requests` with one exec, and with further ones only for questions that its answers raise. If `untrusted`, an object whose read runs a command of the manifest is refused.
pub(crate) async fn read(
    shell: &NodeShell,
    requests: &[ReadRequest],
    sources: &Sources,
    untrusted: bool,
) -> Vec<Result<Option<Observed>, ProviderError>> {
    let objects: Vec<Requested> = requests.iter().map(|request| Object::of(request, untrusted)).collect();
    let reading = Reading::of(&objects, sources);
    if reading.script.sections() == 0 {
        return objects.into_iter().map(|object| object.map(|_| None)).collect();
    }
    let (answers, mut findings) = reading.ask(shell).await;
    let looks = objects.iter().zip(&answers).filter_map(|(object, own)| object.as_ref().ok()?.as_ref()?.look(own));
    ask_further(shell, &looks.collect::<Vec<_>>(), sources, &mut findings).await;
    let observed = objects.into_iter().zip(answers).map(|(object, own)| match object? {
        Some(object) => object.observed(shell, own, &findings, sources),
        None => Ok(None),
    });
    let observed = observed.collect();
    shell.preconditions().extend(findings);
    observed
}

impl Reading {
    /// Returns the script that reads `objects`.
    fn of(objects: &[Requested<'_>], sources: &Sources) -> Self {
        let (mut script, mut own, mut questions) = (Script::new(), Vec::new(), Vec::new());
        for object in objects {
            let Ok(Some(object)) = object else {
                own.push(None);
                continue;
            };
            let body = object.own_script();
            own.push((!body.is_empty()).then(|| script.section(&body)));
            questions.extend(object.questions(sources));
        }
        let asked = Asked::add(&mut script, questions);
        Self { script, own, asked }
    }

    /// Runs the script, which also reads the identity of the machine if that is unknown. Returns the answer of the own shell of each object, and the findings about the node.
    async fn ask(mut self, shell: &NodeShell) -> (Vec<Answered>, Findings) {
        let reads_machine = shell.machine().is_none();
        if reads_machine {
            self.script.section(machine::READ);
        }
        let answers = shell.read(&self.script, quick_limit(self.own.len())).await;
        let (answers, mut found) = divided(answers, self.own.iter().flatten().count());
        if reads_machine
            && let Some(answer) = found.as_mut().ok().and_then(Vec::pop)
            && answer.interrupted.is_none()
        {
            shell.record_machine(&answer);
        }
        let own = self.own.into_iter().map(|section| match section.and_then(|index| answers.get(index)) {
            Some(answer) => answer.clone(),
            None => Ok(Section::ended(0, [])),
        });
        (own.collect(), self.asked.findings(found))
    }
}

impl<'a> Object<'a> {
    /// Returns the object of `request`.
    fn of(request: &'a ReadRequest, untrusted: bool) -> Requested<'a> {
        let resource = resource_of(&request.resource_type)?;
        let subject = Subject::of_read(request);
        if untrusted {
            check_read(resource, &subject.attributes)?;
        }
        Ok(resource.identity(&subject.attributes).map(|_| Self { request, resource, subject }))
    }

    /// Returns shell that reports what no question asks, about the object and about the preconditions of a change.
    fn own_script(&self) -> String {
        let mut own = self.resource.read_script(&self.subject);
        if let Some(desired) = &self.request.desired {
            own.push_str(&preconditions::read_script(self.request.resource_type.name(), desired));
        }
        own
    }

    /// Returns the first questions about the object and about the preconditions of a change.
    fn questions(&self, sources: &Sources) -> Vec<Question> {
        let mut questions = first_questions(self.resource, &self.subject, sources);
        if let Some(desired) = &self.request.desired {
            questions.extend(preconditions::questions(self.request.resource_type.name(), desired));
        }
        questions
    }

    /// Returns the look at the object, unless its own shell failed.
    fn look<'b>(&'b self, own: &'b Answered) -> Option<Look<'b>> {
        let own = own.as_ref().ok().filter(|own| own.status == Some(0))?;
        Some(Look { resource: self.resource, subject: &self.subject, own })
    }

    /// Returns the observed object, and keeps what its own shell reported about the preconditions of a change.
    fn observed(
        &self,
        shell: &NodeShell,
        own: Answered,
        findings: &Findings,
        sources: &Sources,
    ) -> Result<Option<Observed>, ProviderError> {
        let what = format!("read {}", label(self.resource, &self.subject));
        let succeeded = |answer| require_success(&shell.node, &what, answer).map_err(shortened);
        let own = succeeded(own?)?;
        let look = Look { resource: self.resource, subject: &self.subject, own: &own };
        if let Some(failure) = look.failure(findings, sources) {
            succeeded(failure.clone())?;
        }
        let observed = observe(&look, findings, sources);
        if self.request.desired.is_some() {
            shell.preconditions().note(&self.request.address, own);
        }
        observed
    }
}

/// Returns the observed object, with the settings of the last apply. Values that are sensitive in the manifest or in the record are marked sensitive.
pub(crate) fn observe(
    look: &Look<'_>,
    findings: &Findings,
    sources: &Sources,
) -> Result<Option<Observed>, ProviderError> {
    let Look { resource, subject, .. } = look;
    let Some(mut observed) = resource.observe(subject, &look.answer(findings, sources))? else { return Ok(None) };
    for name in resource.settings() {
        if let Some(value) = subject.setting(name).filter(|value| !value.is_unknown()) {
            observed.attributes.get_or_insert_with(name, || value.clone());
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

/// Reads the facts of the node, once for each of `requests`.
pub(crate) async fn read_facts(shell: &NodeShell, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
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

/// Returns the messages of objects on the node that explain the failure of another object.
pub(crate) async fn explain(shell: &NodeShell, requests: &[ReadRequest]) -> Vec<String> {
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

/// Refuses an instance whose read runs a command of the manifest.
fn check_read(resource: &dyn Resource, attributes: &Attributes) -> Result<(), ProviderError> {
    match resource.command_of_read(attributes) {
        Some(name) => Err(untrusted::refusal(format!("runs no command of the manifest: `{name}`")).attribute(name)),
        None => Ok(()),
    }
}

//! Reads, plans and changes certificates on one node, through the provider `ssh`: all of them together in its batches.

use std::sync::Arc;

use moorfast_engine::model::{Attributes, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Connection, Consequence, Context, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, ReadRequest, ResourceType, Target,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::attributes::with_limited;
use crate::node_files::{self, FILE, KnownKey, NodeFiles, Part};
use crate::resource::authority::is_limited;
use crate::resource::certificate::{self, Written};
use crate::store::{Entries, KeyStore};

/// A reading of a file: what was found, or `None` if there is no file.
type Found = Result<Option<Observed>, ProviderError>;

/// The provider `ssh`, which reads and writes the files of certificates.
pub(crate) struct Ssh {
    /// Its connection.
    pub(crate) connection: Arc<dyn Connection>,
    /// The type of the files.
    pub(crate) file_type: Arc<dyn ResourceType>,
}

impl Ssh {
    /// Returns the provider.
    ///
    /// # Errors
    /// If the program has no provider `ssh`.
    pub(crate) fn of(context: &Context) -> Result<Self, ProviderError> {
        let used = context.used.0.get("ssh").and_then(|ssh| {
            let file_type = ssh.resource_types.iter().find(|resource_type| resource_type.name() == FILE)?;
            Some(Self { connection: ssh.connection.clone(), file_type: file_type.clone() })
        });
        used.ok_or_else(|| ProviderError::new(Class::Invalid, "`pki_certificate` needs the provider `ssh`"))
    }
}

/// Reads the certificates.
pub(crate) async fn read(ssh: &Ssh, target: &Target, requests: &[ReadRequest], entries: &Entries) -> Vec<Found> {
    let known: Vec<_> = requests.iter().map(known_key).collect();
    let mut files = Vec::new();
    let mut is_asked = Vec::new();
    for (request, known) in requests.iter().zip(&known) {
        let both = [Part::Key, Part::Certificate]
            .map(|part| node_files::read_request(&ssh.file_type, part, request, known.as_ref()));
        is_asked.push(both.iter().all(Option::is_some));
        if let [Some(key), Some(certificate)] = both {
            files.extend([key, certificate]);
        }
    }
    let mut answers = ssh.connection.read(target, &files).await.into_iter();
    let mut next = || answers.next().unwrap_or_else(|| Err(no_answer()));
    let mut found = Vec::new();
    for ((request, known), is_asked) in requests.iter().zip(&known).zip(is_asked) {
        found.push(match is_asked {
            true => observed(request, known.as_ref(), (next(), next()), entries),
            false => Ok(None),
        });
    }
    found
}

/// Plans the certificates, with the obstacles that the provider `ssh` finds for their files.
pub(crate) async fn plan(ssh: &Ssh, target: &Target, requests: &[PlanRequest]) -> Vec<Proposal> {
    let mut proposals: Vec<_> = requests.iter().map(certificate::plan).collect();
    let mut files = Vec::new();
    let mut owners = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        if proposals[index].action == ProposedAction::NoOp {
            continue;
        }
        let found = files_of(request.observed.as_ref());
        for part in [Part::Key, Part::Certificate] {
            if let Some(file) = node_files::plan_request(&ssh.file_type, part, request, &found) {
                files.push(file);
                owners.push(index);
            }
        }
    }
    for (index, proposal) in owners.into_iter().zip(ssh.connection.plan(target, &files).await) {
        let obstacles = proposal.map(|proposal| proposal.consequences).unwrap_or_default();
        let obstacles = obstacles.into_iter().filter(|c| matches!(c, Consequence::Obstacle { .. }));
        let known = &mut proposals[index].consequences;
        obstacles.for_each(|obstacle| {
            if !known.contains(&obstacle) {
                known.push(obstacle)
            }
        });
    }
    proposals
}

/// An operation with the files that it writes or removes, and the entries of the key store that it needs.
pub(crate) struct Job {
    operation: Operation,
    files: [Operation; 2],
    written: Option<(Written, Attributes)>,
    entries: Arc<Entries>,
}

/// Prepares the operations: makes keys and issues certificates.
pub(crate) fn jobs(
    file_type: &Arc<dyn ResourceType>,
    operations: &[Operation],
    store: &KeyStore,
) -> Vec<Result<Job, ProviderError>> {
    let entries = store.read().map(Arc::new);
    operations.iter().map(|operation| Job::of(file_type, operation, entries.clone()?)).collect()
}

/// Carries out the prepared operations, and reports each.
pub(crate) async fn apply(
    ssh: &Ssh,
    target: &Target,
    jobs: Vec<Result<Job, ProviderError>>,
    outcomes: &UnboundedSender<(usize, Result<Applied, ProviderError>)>,
) {
    let files: Vec<_> = jobs.iter().flatten().flat_map(|job| job.files.iter().cloned()).collect();
    let (sender, mut receiver) = unbounded_channel();
    let mut ended: Vec<Option<Result<Applied, ProviderError>>> = vec![None; files.len()];
    let receive = async {
        while let Some((index, outcome)) = receiver.recv().await {
            if let Some(place) = ended.get_mut(index) {
                *place = Some(outcome);
            }
        }
    };
    tokio::join!(ssh.connection.apply(target, &files, sender), receive);
    let mut ended = ended.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(no_answer())));
    for (index, job) in jobs.into_iter().enumerate() {
        let mut next = || ended.next().unwrap_or_else(|| Err(no_answer()));
        let outcome = job.and_then(|job| {
            let (key, certificate) = (next(), next());
            job.applied(key, certificate)
        });
        // The receiver is gone only when the run is.
        _ = outcomes.send((index, outcome));
    }
}

impl Job {
    fn of(
        file_type: &Arc<dyn ResourceType>,
        operation: &Operation,
        entries: Arc<Entries>,
    ) -> Result<Self, ProviderError> {
        let unknown = || ProviderError::new(Class::Invalid, "the paths of the certificate are not known");
        let desired = match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => desired,
            OperationAction::Delete => {
                let [key, certificate] =
                    [Part::Key, Part::Certificate].map(|part| node_files::remove(file_type, part, operation));
                let files = [key.ok_or_else(unknown)?, certificate.ok_or_else(unknown)?];
                return Ok(Self { operation: operation.clone(), files, written: None, entries });
            }
        };
        let mut desired = desired.clone();
        certificate::normalize(&mut desired);
        let observed = operation.observed.as_ref();
        // A create after a destroy of the same operation finds no files.
        let observed = observed.filter(|_| matches!(operation.action, OperationAction::Update(_)));
        let before = files_of(observed);
        let known = operation.recorded.as_ref().and_then(|record| KnownKey::of(&record.private));
        let observed = observed.map(|observed| &observed.attributes);
        let known = known.as_ref().map(|key| key.public_key.as_str());
        let written = certificate::make(&desired, observed, &before, known, &entries)?;
        let write = |part, content: Option<&str>| {
            node_files::write(file_type, part, operation, &desired, &before, content).ok_or_else(unknown)
        };
        let key = write(Part::Key, written.key.as_ref().map(|pem| pem.as_str()))?;
        let certificate = write(Part::Certificate, written.certificate.as_deref())?;
        let written = Some((written, desired));
        Ok(Self { operation: operation.clone(), files: [key, certificate], written, entries })
    }

    fn applied(
        &self,
        key: Result<Applied, ProviderError>,
        certificate: Result<Applied, ProviderError>,
    ) -> Result<Applied, ProviderError> {
        let (key, certificate) = (key?, certificate?);
        let notes = key.notes.into_iter().chain(certificate.notes).collect();
        let Some((written, desired)) = &self.written else { return Ok(Applied { notes, ..Applied::default() }) };
        let observed = |attributes| Observed { attributes, private: serde_json::Value::Null };
        let mut certificate = certificate.attributes;
        let kept = || {
            let before = &self.operation.observed.as_ref()?.attributes;
            let chain = before.get("chain").and_then(Value::as_str).unwrap_or_default();
            Some(before.get("certificate")?.as_str()?.to_owned() + chain)
        };
        if let Some(text) = written.certificate.clone().or_else(kept) {
            certificate.insert("content".to_owned(), text.into());
        }
        let known = KnownKey::new(&key.attributes, &written.public);
        let files = NodeFiles::of(Some(observed(key.attributes)), Some(observed(certificate)), known.as_ref());
        let attributes = certificate::observe(&files, desired, &self.entries).unwrap_or_default();
        Ok(Applied { attributes, private: files.private(), notes })
    }
}

/// Returns what the record says about the key of a certificate.
fn known_key(request: &ReadRequest) -> Option<KnownKey> {
    KnownKey::of(&request.recorded.as_ref()?.private)
}

/// Returns the files that a reading found.
fn files_of(observed: Option<&Observed>) -> NodeFiles {
    observed.map(|observed| NodeFiles::from_private(&observed.private, &observed.attributes)).unwrap_or_default()
}

fn observed(
    request: &ReadRequest,
    known: Option<&KnownKey>,
    (key, certificate): (Found, Found),
    entries: &Entries,
) -> Found {
    let files = NodeFiles::of(key?, certificate?, known);
    let recorded = request.recorded.as_ref().map(|record| recorded_values(&record.attributes));
    let settings = recorded.or_else(|| request.desired.clone()).unwrap_or_default();
    let attributes = certificate::observe(&files, &settings, entries);
    let limited = files.first_certificate().is_some_and(|certificate| is_limited(&certificate, entries));
    Ok(attributes.map(|attributes| Observed { attributes, private: with_limited(files.private(), limited) }))
}

fn no_answer() -> ProviderError {
    ProviderError::new(Class::Failed, "the provider `ssh` returned no result").help("this is a bug in moorfast")
}

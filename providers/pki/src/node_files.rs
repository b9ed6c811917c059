//! The two files of a certificate on a node. They are files of the provider `ssh`, which reads and writes them.

use std::sync::Arc;

use jiff::Timestamp;
use moorfast_engine::model::{Address, Attributes, ReadAttributes, Value, recorded_values};
use moorfast_engine::provider::{Observed, Operation, OperationAction, PlanRequest, ReadRequest, ResourceType};
use moorfast_engine::state::Record;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::attributes::attributes;
use crate::certificate::Certificate;
use crate::key::{PrivateKey, PublicKey};

/// The type of the files.
pub(crate) const FILE: &str = "ssh_file";

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Certificate,
}

/// A file that was found on a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeFile {
    /// The attributes of the `ssh_file`, without the content.
    pub(crate) attributes: Attributes,
    /// Its private data.
    private: Json,
    /// The certificates in PEM. `None` for the key.
    pub(crate) pem: Option<String>,
}

/// The files that were found on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFiles {
    pub(crate) key: Option<NodeFile>,
    pub(crate) certificate: Option<NodeFile>,
    /// The public key that belongs to the private key, if it is known.
    public: Option<PublicKey>,
}

/// The part of a record that describes the private key on a node. A digest of the file and the public key disclose nothing of the private key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KnownKey {
    /// The SHA-256 of the file.
    sha256: String,
    /// The public key in PEM.
    pub(crate) public_key: String,
}

impl KnownKey {
    /// Returns the description of the key after an operation wrote or kept it.
    pub(crate) fn new(file: &Attributes, public: &PublicKey) -> Option<Self> {
        Some(Self { sha256: file.text("sha256")?.to_owned(), public_key: public.pem() })
    }

    /// Returns the description in the private data of a record.
    pub(crate) fn of(private: &Json) -> Option<Self> {
        serde_json::from_value(private["key"].clone()).ok()
    }
}

impl NodeFiles {
    /// Returns the files from the answers of the provider `ssh`. `known` is what the record says about the key.
    pub(crate) fn of(key: Option<Observed>, certificate: Option<Observed>, known: Option<&KnownKey>) -> Self {
        let public = key.as_ref().and_then(|key| public_key(&key.attributes, known));
        let certificate = certificate.map(|observed| {
            let pem = observed.attributes.text("content").map(str::to_owned);
            NodeFile { pem, ..NodeFile::of(observed) }
        });
        Self { key: key.map(NodeFile::of), certificate, public }
    }

    /// Returns the files again from the data that [`NodeFiles::private`] returned, and from the observed certificate.
    pub(crate) fn from_private(private: &Json, observed: &Attributes) -> Self {
        let file = |name: &str, pem: Option<String>| {
            let saved = private["files"][name].as_object()?;
            let attributes = recorded_values(saved["attributes"].as_object()?);
            Some(NodeFile { attributes, private: saved["private"].clone(), pem })
        };
        let public = KnownKey::of(private).and_then(|known| PublicKey::from_pem(&known.public_key));
        let pem = observed.text("certificate").map(str::to_owned);
        Self { key: file("key", None), certificate: file("certificate", pem), public }
    }

    /// Returns the data that plan and apply need again. It contains no secret.
    pub(crate) fn private(&self) -> Json {
        let saved = |file: &Option<NodeFile>| {
            file.as_ref().map(|file| {
                let plain = file
                    .attributes
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), value.reveal_deep().to_json()?)));
                json!({ "attributes": plain.collect::<Map<_, _>>(), "private": file.private })
            })
        };
        json!({
            "files": { "key": saved(&self.key), "certificate": saved(&self.certificate) },
            "key": self.known_key(),
        })
    }

    /// Returns what to record about the key.
    fn known_key(&self) -> Option<KnownKey> {
        KnownKey::new(&self.key.as_ref()?.attributes, self.public.as_ref()?)
    }

    /// Whether the private key is that of the certificate.
    pub(crate) fn key_matches(&self) -> bool {
        self.public.is_some() && self.first_certificate().map(|certificate| certificate.public_key()) == self.public
    }

    /// Returns the public key, if the private key is the recorded one or fits the certificate.
    pub(crate) fn trusted_key(&self, known: Option<&str>) -> Option<PublicKey> {
        let public = self.public.clone()?;
        let is_known = known == Some(&public.pem());
        (is_known || self.key_matches()).then_some(public)
    }

    /// Returns the certificate, without those that follow it in its file.
    pub(crate) fn first_certificate(&self) -> Option<Certificate> {
        let chain = Certificate::chain_from_pem(self.certificate.as_ref()?.pem.as_deref()?).ok()?;
        chain.into_iter().next()
    }

    fn part(&self, part: Part) -> Option<&NodeFile> {
        match part {
            Part::Key => self.key.as_ref(),
            Part::Certificate => self.certificate.as_ref(),
        }
    }

    fn observed(&self, part: Part) -> Option<Observed> {
        let file = self.part(part)?;
        Some(Observed { attributes: file.attributes.clone(), private: file.private.clone() })
    }
}

impl NodeFile {
    fn of(observed: Observed) -> Self {
        let Observed { mut attributes, private } = observed;
        attributes.remove("content");
        Self { attributes, private, pem: None }
    }
}

/// Returns the public key of a private key: the recorded one if the digest of the file is, otherwise that of the content.
fn public_key(file: &Attributes, known: Option<&KnownKey>) -> Option<PublicKey> {
    let sha256 = file.text("sha256");
    match known.filter(|known| Some(known.sha256.as_str()) == sha256) {
        Some(known) => PublicKey::from_pem(&known.public_key),
        None => PrivateKey::from_pem(file.text("content")?).ok()?.public().ok(),
    }
}

/// Returns the request to read a file. The private key is not read if its digest is the recorded one.
pub(crate) fn read_request(
    file_type: &Arc<dyn ResourceType>,
    part: Part,
    request: &ReadRequest,
    known: Option<&KnownKey>,
) -> Option<ReadRequest> {
    let recorded = request.recorded.as_deref();
    let of_record = recorded.map(|record| recorded_values(&record.attributes));
    let own = request.desired.as_ref().or(of_record.as_ref())?;
    let desired = file(part, own)?;
    let known = known.filter(|_| part == Part::Key);
    let as_recorded = |known: &KnownKey| {
        let sealed = attributes([("path", desired.get("path").cloned().unwrap_or_default())]);
        let mut attributes: Map<_, _> =
            sealed.iter().filter_map(|(name, value)| Some((name.clone(), value.to_json()?))).collect();
        attributes.insert("sha256".to_owned(), json!(known.sha256));
        Arc::new(record(&request.address, recorded, attributes))
    };
    Some(ReadRequest {
        address: address(part, &request.address),
        resource_type: file_type.clone(),
        recorded: known.map(as_recorded),
        desired: Some(desired),
    })
}

/// Returns the request to plan a file that the change of a certificate writes.
pub(crate) fn plan_request(
    file_type: &Arc<dyn ResourceType>,
    part: Part,
    request: &PlanRequest,
    files: &NodeFiles,
) -> Option<PlanRequest> {
    let mut desired = file(part, &request.desired)?;
    desired.insert("content".to_owned(), Value::Unknown);
    Some(PlanRequest {
        address: address(part, &request.address),
        resource_type: file_type.clone(),
        desired,
        recorded: None,
        observed: files.observed(part),
        ignored: Vec::new(),
        foreign: false,
        triggers: Vec::new(),
        dependencies: Vec::new(),
    })
}

/// Returns the operation that writes a file, or keeps its content if `content` is `None`.
pub(crate) fn write(
    file_type: &Arc<dyn ResourceType>,
    part: Part,
    operation: &Operation,
    desired: &Attributes,
    files: &NodeFiles,
    content: Option<&str>,
) -> Option<Operation> {
    let mut attributes = file(part, desired)?;
    let content = content.map_or(Value::Retained, Value::from);
    attributes.insert("content".to_owned(), if part == Part::Key { content.sensitive() } else { content });
    let observed = files.observed(part);
    let action = match observed.is_some() {
        true => OperationAction::Update(attributes),
        false => OperationAction::Create(attributes),
    };
    Some(Operation { observed, ..of_file(file_type, part, operation, action) })
}

/// Returns the operation that removes a file.
pub(crate) fn remove(file_type: &Arc<dyn ResourceType>, part: Part, operation: &Operation) -> Option<Operation> {
    let observed = operation.observed.as_ref().map(|observed| observed.attributes.clone());
    let recorded = operation.recorded.as_ref().map(|record| recorded_values(&record.attributes));
    let attributes = file(part, &observed.or(recorded)?)?;
    let observed = Some(Observed { attributes, private: Json::Null });
    Some(Operation { observed, ..of_file(file_type, part, operation, OperationAction::Delete) })
}

fn of_file(file_type: &Arc<dyn ResourceType>, part: Part, operation: &Operation, action: OperationAction) -> Operation {
    Operation {
        address: address(part, &operation.address),
        resource_type: file_type.clone(),
        action,
        recorded: None,
        observed: None,
        triggers: Vec::new(),
        objects: Vec::new(),
        consequences: Vec::new(),
        machine_gone: operation.machine_gone,
        drain: None,
        timeout: operation.timeout,
    }
}

/// Returns the attributes of the `ssh_file`, without its content. `None` if the path is unknown.
fn file(part: Part, own: &Attributes) -> Option<Attributes> {
    let value = |name: &str| own.get(name).filter(|value| !value.is_retained()).cloned().unwrap_or_default();
    let (path, mode) = match part {
        Part::Key => ("key_path", "key_mode"),
        Part::Certificate => ("certificate_path", "certificate_mode"),
    };
    own.text(path)?;
    Some(attributes([
        ("path", value(path)),
        ("mode", value(mode)),
        ("owner", value("owner")),
        ("group", value("group")),
        ("parents", value("parents")),
        ("sensitive", (part == Part::Key).into()),
    ]))
}

/// Returns the address of a file in messages.
fn address(part: Part, of: &Address) -> Address {
    let mut address = of.clone();
    let resource = Arc::make_mut(&mut address.resource);
    resource.resource_type = FILE.to_owned();
    resource.name.push_str(match part {
        Part::Key => "-key",
        Part::Certificate => "-certificate",
    });
    address
}

fn record(address: &Address, of: Option<&Record>, attributes: Map<String, Json>) -> Record {
    let target = of.map(|record| record.target.clone()).unwrap_or_default();
    Record {
        address: address.to_string(),
        resource_type: FILE.to_owned(),
        provider: "ssh".to_owned(),
        target,
        identity: String::new(),
        attributes,
        dependencies: Vec::new(),
        triggers: Default::default(),
        private: Json::Null,
        prevent_destroy: false,
        incomplete: false,
        pending: Vec::new(),
        machine: None,
        updated_at: Timestamp::now(),
    }
}

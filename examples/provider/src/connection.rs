//! How an `example_file` is read, planned and changed.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, Value, is_inside};
use moorfast_engine::provider::{
    Applied, Class, Connection, Context, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, Target,
};
use moorfast_engine::state::Record;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::sync::mpsc::UnboundedSender;

use crate::example_file::text;

/// The provider `example`, configured for one run.
pub struct ExampleConnection {
    pub context: Context,
}

#[async_trait]
impl Connection for ExampleConnection {
    async fn read(&self, _: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        requests.iter().map(|r| self.observe(path_of(r.desired.as_ref(), r.recorded.as_deref()))).collect()
    }

    async fn plan(&self, _: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        requests.iter().map(|request| Ok(propose(request))).collect()
    }

    async fn apply(
        &self,
        _: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        for (index, operation) in operations.iter().enumerate() {
            let permitted = self.context.start_permit.check(&operation.address);
            let outcome = permitted.and_then(|()| self.perform(operation));
            // The receiver is gone only when the run is.
            _ = outcomes.send((index, outcome));
        }
    }
}

/// Compares the observed file with the desired one.
fn propose(request: &PlanRequest) -> Proposal {
    let mut planned = request.desired.clone();
    // The size follows from the content. As long as the content is unknown, so is the size.
    let size =
        text(&planned, "content").map_or(Value::Unknown, |content| Value::from(content.len() as i64).sensitive());
    planned.insert("size".to_owned(), size);
    let Some(observed) = &request.observed else { return Proposal::new(ProposedAction::Create, planned) };
    for (name, value) in &mut planned {
        // A retained value stands for the value that the file already has.
        if value.is_retained() {
            *value = observed.attributes.get(name).cloned().unwrap_or_default();
        }
    }
    let action = if planned == observed.attributes { ProposedAction::NoOp } else { ProposedAction::Update };
    let mut proposal = Proposal::new(action, planned);
    proposal.consequences.extend(request.overwrite(&proposal, &["content"]));
    proposal
}

impl ExampleConnection {
    /// Reads the file, or returns `None` if it does not exist.
    fn observe(&self, path: &str) -> Result<Option<Observed>, ProviderError> {
        let failed = |error: io::Error| failure("read", path, &error);
        let file = self.resolve(path)?;
        let content = match fs::read(&file) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = fs::metadata(&file).map_err(failed)?.permissions().mode() & 0o7777;
        let attributes = Attributes::from([
            ("path".to_owned(), Value::from(path)),
            ("content".to_owned(), Value::from(String::from_utf8_lossy(&content).as_ref()).sensitive()),
            ("mode".to_owned(), Value::from(format!("{mode:04o}"))),
            ("size".to_owned(), Value::from(content.len() as i64).sensitive()),
        ]);
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn perform(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let recorded = operation.recorded.as_deref();
        let private = recorded.map(|record| record.private.clone()).unwrap_or_default();
        let (desired, private) = match &operation.action {
            OperationAction::Create(desired) => (desired, self.create_folder(path_of(Some(desired), None))?),
            OperationAction::Update(desired) => (desired, private),
            OperationAction::Delete => {
                let observed = operation.observed.as_ref().map(|observed| &observed.attributes);
                return self.delete(path_of(observed, recorded), &private);
            }
        };
        let path = path_of(Some(desired), recorded);
        let is_new = matches!(operation.action, OperationAction::Create(_));
        if let Err(error) = self.write(path, desired, is_new) {
            // The folder that was created is recorded, although the file failed.
            return Err(ProviderError { private: Some(Box::new(private)), ..failure("write", path, &error) });
        }
        let written = self.observe(path)?.unwrap_or_default();
        Ok(Applied { attributes: written.attributes, private, notes: Vec::new() })
    }

    /// Writes a whole file or none: a crash leaves no half of it. A new file replaces no other, for the plan has seen none.
    fn write(&self, path: &str, desired: &Attributes, is_new: bool) -> io::Result<()> {
        let file = self.context.root.join(path);
        let mode = text(desired, "mode").and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o600);
        let Some(content) = text(desired, "content") else {
            // Retained: the content stays.
            return fs::set_permissions(&file, Permissions::from_mode(mode));
        };
        let mut written = NamedTempFile::new_in(file.parent().unwrap_or(Path::new("/")))?;
        written.write_all(content.as_bytes())?;
        written.as_file().set_permissions(Permissions::from_mode(mode))?;
        match is_new {
            true => written.persist_noclobber(&file)?,
            false => written.persist(&file)?,
        };
        Ok(())
    }

    /// Creates the folder of the file. Returns the private data that names it if it did not exist.
    fn create_folder(&self, path: &str) -> Result<serde_json::Value, ProviderError> {
        let file = self.resolve(path)?;
        let Some(folder) = file.parent().filter(|folder| !folder.exists()) else { return Ok(json!({})) };
        fs::create_dir_all(folder).map_err(|error| failure("create the folder of", path, &error))?;
        Ok(json!({ "folder": folder }))
    }

    /// Removes the file, and the folder that was created for it. Both may be gone already.
    fn delete(&self, path: &str, private: &serde_json::Value) -> Result<Applied, ProviderError> {
        match fs::remove_file(self.resolve(path)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failure("delete", path, &error)),
            _ => {}
        }
        if let Some(folder) = private["folder"].as_str() {
            // A folder that holds other files stays.
            _ = fs::remove_dir(folder);
        }
        Ok(Applied::default())
    }

    /// Returns the path of the file on this machine. A manifest of somebody else reaches no file outside of its folder.
    fn resolve(&self, path: &str) -> Result<PathBuf, ProviderError> {
        let Context { root, data_dir, untrusted, .. } = &self.context;
        let file = root.join(path);
        if *untrusted && !is_inside(root, data_dir, &file) {
            let summary = format!("{path} is outside of the folder of the manifest, which is not trusted");
            return Err(ProviderError::new(Class::Denied, summary).attribute("path"));
        }
        Ok(file)
    }
}

/// Returns the path from the attributes, or from the record if the manifest no longer has the file.
fn path_of<'a>(attributes: Option<&'a Attributes>, recorded: Option<&'a Record>) -> &'a str {
    let declared = attributes.and_then(|attributes| text(attributes, "path"));
    declared.or(recorded.map(|record| record.identity.as_str())).unwrap_or_default()
}

fn failure(verb: &str, path: &str, error: &io::Error) -> ProviderError {
    let class = match error.kind() {
        ErrorKind::PermissionDenied => Class::Denied,
        ErrorKind::AlreadyExists => Class::Conflict,
        _ => Class::Failed,
    };
    ProviderError::new(class, format!("cannot {verb} {path}: {error}")).attribute("path")
}

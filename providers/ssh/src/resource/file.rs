//! `ssh_file`: one file with its content.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Consequence, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProviderError, TargetKind,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::proposal::propose;
use super::{
    Resource, ShellTask, absolute_path, mode, no_interpreter_line, not_sensitive, parent, path_obstacle, upload,
};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{self, Section, print_bytes, quote};
use crate::sources::{SMALL, Source, Sources};
use crate::subject::Subject;
use crate::writes::{Object, Write};

/// The resource type `ssh_file`.
pub(crate) struct File;

/// The attributes that set the content of the file.
const CONTENTS: &[&str] = &["content", "content_base64", "source"];

/// The desired content of the file.
enum DesiredContent {
    /// Known only during the apply.
    Unknown,
    /// The existing content.
    Retained,
    Bytes(Vec<u8>),
    Local(Arc<Source>),
}

impl DesiredContent {
    fn of(attributes: &Attributes, sources: &Sources) -> Result<Self, ProviderError> {
        let Some((name, value)) = CONTENTS.iter().find_map(|n| Some((*n, attributes.get(n).filter(|v| !v.is_null())?)))
        else {
            return Err(ProviderError::new(
                Class::Invalid,
                "missing required attribute: `content`, `content_base64` or `source`",
            ));
        };
        if value.is_retained() {
            return Ok(DesiredContent::Retained);
        }
        let Some(written) = value.as_str() else { return Ok(DesiredContent::Unknown) };
        Ok(match name {
            "content" => DesiredContent::Bytes(written.as_bytes().to_vec()),
            "source" => DesiredContent::Local(sources.get(written)?),
            _ => DesiredContent::Bytes(
                decode(written).map_err(|e| ProviderError::new(Class::Invalid, e).attribute(name))?,
            ),
        })
    }

    fn sha256(&self) -> Option<String> {
        match self {
            DesiredContent::Bytes(bytes) => Some(format!("{:x}", Sha256::digest(bytes))),
            DesiredContent::Local(source) => Some(source.sha256.clone()),
            DesiredContent::Unknown | DesiredContent::Retained => None,
        }
    }

    fn size(&self) -> u64 {
        match self {
            DesiredContent::Bytes(bytes) => bytes.len() as u64,
            DesiredContent::Local(source) => source.size,
            DesiredContent::Unknown | DesiredContent::Retained => 0,
        }
    }

    /// Returns the content if it is small enough to be sent within the script.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            DesiredContent::Bytes(bytes) => Some(bytes),
            DesiredContent::Local(source) => source.bytes.as_deref(),
            DesiredContent::Unknown | DesiredContent::Retained => None,
        }
    }
}

/// Returns `bytes` as text if a plan would show it.
fn readable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (bytes.len() as u64 <= SMALL && !text.contains('\0')).then(|| text.to_owned())
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let compact: String = text.split_whitespace().collect();
    STANDARD.decode(compact).map_err(|e| format!("content_base64 is not base64: {e}"))
}

/// Whether the manifest makes the content sensitive.
fn is_secret(attributes: &Attributes) -> bool {
    attributes.flag("sensitive") || CONTENTS.iter().any(|n| attributes.get(n).is_some_and(Value::is_sensitive))
}

/// Whether it is still unknown if the content is sensitive: neither the manifest nor the record says so.
fn is_secrecy_unknown(subject: &Subject) -> bool {
    let unknown = |name: &&str| subject.attributes.get(name).is_some_and(Value::is_unknown);
    subject.recorded.is_none() && CONTENTS.iter().chain(&["sensitive"]).any(unknown)
}

/// Whether the observed content is hidden.
fn hides_content(subject: &Subject) -> bool {
    let decided = |name: &str| {
        let value = subject.attributes.get(name).filter(|v| !v.is_null());
        value.is_some_and(|v| !v.is_unknown() && !v.is_retained())
    };
    let shown = decided("sensitive") && CONTENTS.iter().any(|name| decided(name));
    let remembered = || subject.recorded.as_ref().and_then(|r| r.get("sha256")).is_some_and(Value::is_sensitive);
    is_secret(&subject.attributes) || is_secrecy_unknown(subject) || (!shown && remembered())
}

/// Whether the content of the file at `path` must be read: it is small enough to be shown, and its digest shows that it is not known.
fn needs_content(path: &str, subject: &Subject, answer: &Answer) -> bool {
    let is_small = answer.node.status(path).is_some_and(|status| status.is_regular() && status.size <= SMALL);
    let is_unknown = |digest| known_content(subject, digest, answer.sources).is_none();
    is_small && !is_secrecy_unknown(subject) && answer.node.digest(path).is_some_and(is_unknown)
}

/// Returns the content with this digest, as far as a plan shows it, if it is the desired or the recorded one.
fn known_content(subject: &Subject, digest: &str, sources: &Sources) -> Option<Option<String>> {
    // A local file that cannot be read is an error of the plan.
    let desired = DesiredContent::of(&subject.attributes, sources).ok();
    if let Some(bytes) = desired.filter(|desired| desired.sha256().as_deref() == Some(digest)) {
        return Some(bytes.bytes().and_then(readable));
    }
    let recorded = subject.recorded.as_ref()?;
    (recorded.text("sha256") == Some(digest)).then(|| recorded.text("content").map(str::to_owned))
}

fn sensitive_if(value: impl Into<Value>, hide: bool) -> Value {
    let value = value.into();
    if hide { value.sensitive() } else { value }
}

impl Resource for File {
    fn declaration(&self) -> Declaration {
        let [owner, group] = mode::owner_and_group();
        let schema = Schema::new(
            "A file with its content. \
             It is written to a temporary file in the same directory and then renamed, so that no reader ever sees a part of it and running programs are replaced safely. \
             A symbolic link at the path is replaced by the file. Plans show the difference of texts up to 64 KiB. Every plan hashes the file on the node, which takes about 0.3 s for 100 MiB. A destroy removes the file.",
            [
                Attribute::required("path", Kind::String, "The absolute path of the file.").replaces(),
                Attribute::optional("content", Kind::String, "The content of the file, as text. A sensitive value is never shown. Exactly one of `content`, `content_base64` and `source` is required."),
                Attribute::optional("content_base64", Kind::String, "The content of the file in base64, for binary data."),
                Attribute::optional("source", Kind::String, "A local file with the content, of any size. A relative path starts at the folder of the manifest."),
                owner,
                group,
                Attribute::optional("mode", Kind::Mode, "The permissions, in octal.").or("0644"),
                Attribute::optional("sensitive", Kind::Bool, "Whether the content is never shown or stored. A sensitive `content` implies it.").or(false),
                Attribute::optional("parents", Kind::Bool, "Whether missing parent directories are created (mode 0755). They stay when the file is destroyed.").or(false).instruction(),
                Attribute::optional("backup", Kind::Bool, "Whether a file that moorfast did not write is kept as `PATH.moorfast-backup-TIME` when it is replaced. A destroy restores the first backup.").or(false).instruction(),
                Attribute::optional("validate", Kind::Any, "A command that checks the new file before it replaces the old one: a list of arguments, or a line for sh. An exit status other than 0 refuses the file. `%s` stands for the path of the new file, e.g. `[\"visudo\", \"-cf\", \"%s\"]`. It cannot be sensitive."),
                Attribute::computed("sha256", Kind::String, "The SHA-256 of the content, in hexadecimal digits. Sensitive if the content is.").derived_from("content"),
                Attribute::computed("size", Kind::Integer, "The size of the content in bytes. Sensitive if the content is.").derived_from("content"),
                mode::kind_attribute(),
            ],
        );
        Declaration { name: "ssh_file", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let given: Vec<&str> = CONTENTS.iter().copied().filter(|name| attributes.is_set(name)).collect();
        let mut invalid: Vec<Invalid> = absolute_path(attributes, "path").into_iter().collect();
        invalid.extend(not_sensitive(
            attributes,
            "validate",
            "let the command read the secret from a file on the node",
        ));
        if given.len() != 1 {
            let message = match given.len() {
                0 => "missing required attribute: `content`, `content_base64` or `source`".to_owned(),
                _ => format!("`{}` cannot be combined", given.join("` and `")),
            };
            let help = Some("write exactly one of `content`, `content_base64` and `source`".to_owned());
            invalid.push(Invalid { attribute: None, message, help });
        }
        if let Some(Err(message)) = attributes.text("content_base64").map(decode) {
            invalid.push(Invalid::new("content_base64", message));
        }
        if let Some(value) = attributes.get("validate").filter(|v| !v.is_null() && !v.is_unknown()) {
            invalid.extend(no_interpreter_line(value, "validate"));
            let words = value.as_list().is_some_and(|l| !l.is_empty() && l.iter().all(|v| v.as_str().is_some()));
            if value.as_str().is_none() && !words {
                let message = "validate must be a list of strings, or one string".to_owned();
                invalid.push(Invalid::new("validate", message));
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("path:{}", attributes.text("path")?))
    }

    fn source(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("source").map(str::to_owned)
    }

    fn settings(&self) -> &'static [&'static str] {
        &["sensitive", "parents", "backup"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["sha256"]
    }

    fn questions(&self, subject: &Subject, answer: &Answer) -> Vec<Question> {
        let Some(path) = subject.text("path") else { return Vec::new() };
        let mut questions = vec![Topic::Path.of(path)];
        if answer.own.field(upload::RECEIVED).is_none() {
            questions.push(Topic::Digest.of(path));
        }
        if needs_content(path, subject, answer) {
            questions.push(Topic::Content.of(path));
        }
        questions
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let path = subject.text("path").unwrap_or_default();
        let Some(status) = answer.node.status(path) else { return Ok(None) };
        let mut attributes = Attributes::new();
        if let Some(path) = subject.attributes.get("path") {
            attributes.insert("path".to_owned(), path.clone());
        }
        attributes.insert("kind".to_owned(), mode::kind(&status.kind));
        let private = json!({ "kind": status.kind });
        if !status.is_regular() {
            return Ok(Some(Observed { attributes, private }));
        }
        mode::observe(subject, status, &mut attributes);
        let hide = hides_content(subject);
        let mut put = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
        let digest = answer.own.field(upload::RECEIVED).or_else(|| answer.node.digest(path)).unwrap_or_default();
        // The content is read after the digest, and only by itself it is certain to fit it.
        let (sha256, size, content) = match answer.node.content(path).filter(|bytes| bytes.len() as u64 <= SMALL) {
            Some(bytes) => (format!("{:x}", Sha256::digest(bytes)), bytes.len() as u64, readable(bytes)),
            None => (digest.to_owned(), status.size, known_content(subject, digest, answer.sources).flatten()),
        };
        put("sha256", sensitive_if(sha256, hide));
        put("size", sensitive_if(i64::try_from(size).unwrap_or(i64::MAX), hide));
        if let Some(content) = content.filter(|_| !is_secrecy_unknown(subject)) {
            put("content", sensitive_if(content, hide));
        }
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, sources: &Sources) -> Result<Proposal, ProviderError> {
        let desired = DesiredContent::of(&request.desired, sources)?;
        let hide = is_secret(&request.desired);
        let mut planned = request.desired.clone();
        for name in CONTENTS.iter().chain(&["validate"]) {
            planned.remove(name);
        }
        mode::plan(&mut planned);
        let observed = request.observed.as_ref();
        let observed_value = |name: &str| observed.and_then(|o| o.attributes.get(name));
        let mut put = |name: &str, value: Value| planned.insert(name.to_owned(), value);
        put("kind", Value::from("file"));
        match &desired {
            DesiredContent::Unknown => {
                put("content", sensitive_if(Value::Unknown, hide));
                put("sha256", sensitive_if(Value::Unknown, hide));
                put("size", sensitive_if(Value::Unknown, hide));
            }
            DesiredContent::Retained if observed_value("sha256").is_none() => {
                return Err(content_lost(request.desired.text("path").unwrap_or_default()));
            }
            DesiredContent::Retained => {}
            known => {
                let sha256 = known.sha256().unwrap_or_default();
                let unread = observed_value("content").is_none()
                    && observed_value("sha256").and_then(Value::as_str) == Some(&sha256);
                if let Some(text) = known.bytes().and_then(readable).filter(|_| !unread) {
                    put("content", sensitive_if(text, hide));
                }
                put("sha256", sensitive_if(sha256, hide));
                put("size", sensitive_if(known.size() as i64, hide));
            }
        }
        let mut proposal = propose(self, request, planned);
        let replaced =
            observed_value("kind").and_then(Value::as_str).filter(|kind| !["file", "directory"].contains(kind));
        if request.foreign && replaced.is_some() {
            proposal.consequences.push(Consequence::Overwrite);
        }
        if let Some(kind) = observed.and_then(|o| o.private["kind"].as_str()).filter(|k| !k.starts_with("regular")) {
            match kind {
                "directory" => proposal.consequences.push(path_obstacle(kind)),
                _ => proposal.notes.push(format!("there is a {kind} at the path")),
            }
        }
        Ok(proposal)
    }

    fn apply_script(
        &self,
        operation: &Operation,
        subject: &Subject,
        sources: &Sources,
    ) -> Result<ShellTask, ProviderError> {
        let path = subject.text("path").unwrap_or_default();
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::quick(remove(path, subject)));
        }
        // A retained value was already replaced by the observed content, or is missing if the content was too big to be read.
        let desired = match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                DesiredContent::of(desired, sources)?
            }
            OperationAction::Delete => DesiredContent::Retained,
        };
        let now = operation.observed.as_ref().and_then(|o| o.attributes.get("sha256")?.as_str());
        let stays =
            matches!(desired, DesiredContent::Retained) || (now.is_some() && now == desired.sha256().as_deref());
        if stays && now.is_none() {
            return Err(content_lost(path));
        }
        if stays {
            return Ok(ShellTask::quick(format!(
                "P={}; open_existing \"$P\"\n{}",
                quote(path),
                mode::set(&subject.attributes)
            )));
        }
        let observed = operation.observed.as_ref().map(|o| &o.attributes);
        Ok(write(path, &desired, subject, observed, is_foreign(operation)))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        match (subject.private.get("backup"), answer.text("backup")) {
            (Some(first), _) => json!({ "backup": first }),
            (None, Some(backup)) => json!({ "backup": backup }),
            (None, None) => serde_json::Value::Null,
        }
    }
}

/// Returns the error that a lost content cannot be created again.
fn content_lost(path: &str) -> ProviderError {
    ProviderError::new(Class::Failed, format!("{path} no longer exists, and its content cannot be created again"))
        .help("the content was available only once (for example a token): replace the resource that it comes from with --replace")
}

/// Whether the existing file was not written by moorfast.
fn is_foreign(operation: &Operation) -> bool {
    let observed = operation.observed.as_ref().and_then(|o| o.attributes.get("sha256"));
    let recorded = operation.recorded.as_ref().and_then(|r| r.attributes.get("sha256"));
    match (observed.and_then(Value::as_str), recorded) {
        (None, _) => false,
        (Some(now), Some(serde_json::Value::String(then))) => now != then,
        // A sealed digest cannot be compared here; the file of the record is moorfast's own.
        (Some(_), Some(_)) => false,
        (Some(_), None) => true,
    }
}

fn write(
    path: &str,
    desired: &DesiredContent,
    subject: &Subject,
    observed: Option<&Attributes>,
    foreign: bool,
) -> ShellTask {
    let attributes = &subject.attributes;
    let directory = parent(path);
    let parents = match attributes.flag("parents") {
        true => "[ -d \"$D\" ] || mkdir -p -- \"$D\"".to_owned(),
        false => format!(
            "[ -d \"$D\" ] || fail failed {}",
            quote(&format!(
                "the directory {directory} does not exist (create it with ssh_directory, or set parents = true)"
            ))
        ),
    };
    let (fill, upload) = match (desired.bytes(), desired) {
        (None, DesiredContent::Local(source)) => (upload::receive(source), Some(source.clone())),
        // cat reports why it cannot write, which base64 does not always do.
        (bytes, _) => (format!("{} | cat >&6", print_bytes(bytes.unwrap_or_default())), None),
    };
    let keep = match attributes.is_set("owner") || attributes.is_set("group") {
        true => "",
        false => "[ ! -e \"$P\" ] || chown --reference=\"$P\" -- /proc/self/fd/6 2>/dev/null || true",
    };
    let backup = match attributes.flag("backup") && foreign {
        true => {
            "B=\"$P.moorfast-backup-$(date -u +%Y%m%dT%H%M%SZ)\"; cp -aT --remove-destination -- \"$P\" \"$B\"; printf %s \"$B\" | blob backup; note \"the previous file is kept as $B\""
        }
        false => "",
    };
    let body = format!(
        "P={path}; D={directory}
{parents}
kind \"$P\"; [ \"$K\" != directory ] || fail conflict 'there is a directory at that path'
open_temporary \"$D\"
{fill}
{keep}
{owner}sync -- /proc/self/fd/6
exec 6>&-
{validate}{backup}
if ! E=$(mv -fT -- \"$T\" \"$P\" 2>&1); then
  case $E in *'resource busy'*) cat < \"$T\" > \"$P\"; open_existing \"$P\"; {owner_in_place} ;; *) fail failed \"$E\" ;; esac
fi
sync -- \"$D\"",
        path = quote(path),
        directory = quote(directory),
        owner = mode::set(attributes),
        owner_in_place = mode::set(attributes).replace('\n', "; "),
        validate = validation(attributes, is_secret(attributes)),
    );
    let is_plain = upload.is_none() && backup.is_empty() && validation(attributes, false).is_empty();
    let write = desired.bytes().filter(|_| is_plain).map(|content| Write {
        path: path.to_owned(),
        object: Object::File(content.to_vec().into()),
        owner: mode::owner(attributes, observed),
        mode: attributes.text("mode").map(mode::argument),
        parents: attributes.flag("parents"),
    });
    let limit = upload.as_ref().map(|source| upload::limit(source));
    let answers: &[Topic] = if upload.is_some() { &[Topic::Digest] } else { &[] };
    ShellTask { write, long: upload.is_some(), upload, answers, limit, ..ShellTask::quick(body) }
}

fn validation(attributes: &Attributes, hide: bool) -> String {
    let Some(value) = attributes.get("validate") else { return String::new() };
    let command = match value.as_str() {
        Some(line) if line.trim().is_empty() => return String::new(),
        Some(line) => script::user_command(&line.replace("%s", "\"$T\"")),
        None => {
            let words = value.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
            words.map(|word| quote(word).replace("%s", "'\"$T\"'")).collect::<Vec<_>>().join(" ")
        }
    };
    let silent = if hide { ">/dev/null 2>&1" } else { "" };
    format!("( {command}\n) 3<&- 4>&- {silent} || fail invalid 'the validation command refuses the new content'\n")
}

fn remove(path: &str, subject: &Subject) -> String {
    let back = match subject.private["backup"].as_str() {
        Some(backup) => format!(
            "B={}; if [ -e \"$B\" ] || [ -L \"$B\" ]; then mv -fT -- \"$B\" \"$P\"; note \"the previous file is restored from $B\"; fi",
            quote(backup)
        ),
        None => String::new(),
    };
    format!("P={}\nrm -f -- \"$P\"\n{back}", quote(path))
}

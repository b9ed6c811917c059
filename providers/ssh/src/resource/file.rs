//! `ssh_file`: one file with its content.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Class, Consequence, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError,
    ResourceType, TargetKind,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Resource, Step, absolute, flag, in_the_way, mode, no_interpreter, parent, propose, public, text, written};
use crate::script::{self, Section, print_bytes, quote};
use crate::sources::{SMALL, Source, Sources};
use crate::subject::Subject;

/// The resource type `ssh_file`.
pub(crate) struct File;

/// The attributes that say what is in the file.
const CONTENTS: &[&str] = &["content", "content_base64", "source"];

/// What is to be in the file.
enum Wanted {
    /// Known only in the apply.
    Unknown,
    /// What is there.
    Retained,
    Bytes(Vec<u8>),
    Local(Arc<Source>),
}

impl Wanted {
    fn of(attributes: &Attributes, sources: &Sources) -> Result<Self, ProviderError> {
        let Some((name, value)) =
            CONTENTS.iter().find_map(|n| Some((*n, attributes.get(*n).filter(|v| !v.is_null())?)))
        else {
            return Err(ProviderError::new(Class::Invalid, "there is neither content nor content_base64 nor source"));
        };
        if value.is_retained() {
            return Ok(Wanted::Retained);
        }
        let Some(written) = value.as_str() else { return Ok(Wanted::Unknown) };
        Ok(match name {
            "content" => Wanted::Bytes(written.as_bytes().to_vec()),
            "source" => Wanted::Local(sources.get(written)?),
            _ => Wanted::Bytes(decode(written).map_err(|e| ProviderError::new(Class::Invalid, e).attribute(name))?),
        })
    }

    fn sha256(&self) -> Option<String> {
        match self {
            Wanted::Bytes(bytes) => Some(format!("{:x}", Sha256::digest(bytes))),
            Wanted::Local(source) => Some(source.sha256.clone()),
            Wanted::Unknown | Wanted::Retained => None,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Wanted::Bytes(bytes) => bytes.len() as u64,
            Wanted::Local(source) => source.size,
            Wanted::Unknown | Wanted::Retained => 0,
        }
    }

    /// What is sent within the script, where it is small enough for that.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Wanted::Bytes(bytes) => Some(bytes),
            Wanted::Local(source) => source.bytes.as_deref(),
            Wanted::Unknown | Wanted::Retained => None,
        }
    }
}

/// The text of `bytes`, where a plan would show it.
fn readable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (bytes.len() as u64 <= SMALL && !text.contains('\0')).then(|| text.to_owned())
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let compact: String = text.split_whitespace().collect();
    STANDARD.decode(compact).map_err(|e| format!("content_base64 is not base64: {e}"))
}

/// Does the manifest say that what is in the file is never shown?
fn secret(attributes: &Attributes) -> bool {
    flag(attributes, "sensitive") || CONTENTS.iter().any(|n| attributes.get(*n).is_some_and(Value::is_sensitive))
}

/// Is nothing known yet of whether what is in the file may be shown: neither by the manifest nor by what is remembered?
fn undecided(subject: &Subject) -> bool {
    let unknown = |name: &&str| subject.attributes.get(*name).is_some_and(Value::is_unknown);
    subject.recorded.is_none() && CONTENTS.iter().chain(&["sensitive"]).any(unknown)
}

/// Is what is seen of the file's content not to be shown?
fn hidden(subject: &Subject) -> bool {
    let decided = |name: &str| {
        let value = subject.attributes.get(name).filter(|v| !v.is_null());
        value.is_some_and(|v| !v.is_unknown() && !v.is_retained())
    };
    let shown = decided("sensitive") && CONTENTS.iter().any(|name| decided(name));
    let remembered = || subject.recorded.as_ref().and_then(|r| r.get("sha256")).is_some_and(Value::is_sensitive);
    secret(&subject.attributes) || undecided(subject) || (!shown && remembered())
}

fn veiled(value: impl Into<Value>, hide: bool) -> Value {
    let value = value.into();
    if hide { value.sensitive() } else { value }
}

impl Resource for File {
    fn resource_type(&self) -> ResourceType {
        let [owner, group] = mode::owner_and_group();
        let schema = Schema::new(
            "A file with its content. \
             It is written beside its place and then renamed into it, so nobody ever sees half of it and running programs are replaced safely; \
             a symbolic link at the path is replaced by the file. Plans show the difference of texts up to 64 KiB. Every plan hashes the file on the node, which takes about 0.3 s for 100 MiB: nothing less tells that it is unchanged. A destroy removes the file.",
            [
                Attribute::required("path", Kind::String, "Where the file is: an absolute path.").replaces(),
                Attribute::optional("content", Kind::String, "What is in it, as text. A sensitive value is never shown. Exactly one of `content`, `content_base64` and `source` is written."),
                Attribute::optional("content_base64", Kind::String, "What is in it, in base64, for what is not text."),
                Attribute::optional("source", Kind::String, "A file on this machine whose content it gets, of any size. A relative path starts at the folder of the manifest."),
                owner,
                group,
                Attribute::optional("mode", Kind::Mode, "The permissions.").or("0644"),
                Attribute::optional("sensitive", Kind::Bool, "Is the content never shown or stored? A sensitive `content` is so anyway.").or(false),
                Attribute::optional("parents", Kind::Bool, "Make missing parent directories (mode 0755)? They stay when the file is destroyed.").or(false),
                Attribute::optional("backup", Kind::Bool, "Keep what others wrote to the path, as `PATH.moorfast-backup-TIME`, when it is replaced? A destroy puts the first one back.").or(false),
                Attribute::optional("validate", Kind::Any, "A command that looks at the new file before it takes its place, and refuses it by a status other than 0: a list of arguments, or a line for sh. `%s` stands for the path of the new file, e.g. `[\"visudo\", \"-cf\", \"%s\"]`. It can't be sensitive."),
                Attribute::computed("sha256", Kind::String, "The SHA-256 of the content, in hexadecimal digits; sensitive where the content is.").restating("content"),
                Attribute::computed("size", Kind::Integer, "The size of the content in bytes; sensitive where the content is.").restating("content"),
                mode::kind_attribute(),
            ],
        );
        ResourceType { name: "ssh_file", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let given: Vec<&str> = CONTENTS.iter().copied().filter(|name| written(attributes, name)).collect();
        let mut invalid: Vec<Invalid> = absolute(attributes, "path").into_iter().collect();
        invalid.extend(public(attributes, "validate", "have the command read what is secret from a file on the node"));
        if given.len() != 1 {
            let message = match given.len() {
                0 => "nothing says what is in the file".to_owned(),
                _ => format!("{} both say what is in the file", given.join(" and ")),
            };
            let help = Some("write exactly one of `content`, `content_base64` and `source`".to_owned());
            invalid.push(Invalid { attribute: None, message, help });
        }
        if let Some(Err(message)) = text(attributes, "content_base64").map(decode) {
            invalid.push(Invalid { attribute: Some("content_base64"), message, help: None });
        }
        if let Some(value) = attributes.get("validate").filter(|v| !v.is_null() && !v.is_unknown()) {
            invalid.extend(no_interpreter(value, "validate"));
            let words = value.as_list().is_some_and(|l| !l.is_empty() && l.iter().all(|v| v.as_str().is_some()));
            if value.as_str().is_none() && !words {
                let message = "a validation command is a list of texts, or one text".to_owned();
                invalid.push(Invalid { attribute: Some("validate"), message, help: None });
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("path:{}", text(attributes, "path")?))
    }

    fn source(&self, attributes: &Attributes) -> Option<String> {
        text(attributes, "source").map(str::to_owned)
    }

    fn settings(&self) -> &'static [&'static str] {
        &["sensitive", "parents", "backup"]
    }

    fn contents(&self) -> &'static [&'static str] {
        &["sha256"]
    }

    fn look(&self, subject: &Subject) -> String {
        let path = quote(subject.text("path").unwrap_or_default());
        let content = match undecided(subject) {
            true => String::new(),
            false => format!("if [ \"$2\" -le {SMALL} ]; then blob content < \"$P\"; fi"),
        };
        format!(
            "P={path}; kind \"$P\"; field kind \"$K\"
case $K in
regular*)
  {look}; set -- $X
  S=$(sha256sum < \"$P\"); field sha256 \"${{S%% *}}\"
  {content} ;;
esac",
            look = mode::LOOK,
        )
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let kind = seen.field("kind").unwrap_or("absent");
        if kind == "absent" {
            return Ok(None);
        }
        let mut attributes = Attributes::new();
        if let Some(path) = subject.attributes.get("path") {
            attributes.insert("path".to_owned(), path.clone());
        }
        attributes.insert("kind".to_owned(), mode::kind(kind));
        let private = json!({ "kind": kind });
        if !kind.starts_with("regular") {
            return Ok(Some(Observed { attributes, private }));
        }
        mode::observe(subject, seen, &mut attributes);
        let hide = hidden(subject);
        if let Some(sha256) = seen.field("sha256") {
            attributes.insert("sha256".to_owned(), veiled(sha256, hide));
        }
        if let Some(size) = seen.field("stat").and_then(|s| s.split(' ').nth(1)?.parse::<i64>().ok()) {
            attributes.insert("size".to_owned(), veiled(size, hide));
        }
        if let Some(content) = seen.blob("content").as_deref().and_then(readable) {
            attributes.insert("content".to_owned(), veiled(content, hide));
        }
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, sources: &Sources) -> Result<Proposal, ProviderError> {
        let wanted = Wanted::of(&request.desired, sources)?;
        let hide = secret(&request.desired);
        let mut planned = request.desired.clone();
        for name in CONTENTS.iter().chain(&["validate"]) {
            planned.remove(*name);
        }
        mode::plan(&mut planned);
        let observed = request.observed.as_ref();
        let seen = |name: &str| observed.and_then(|o| o.attributes.get(name));
        let mut put = |name: &str, value: Value| planned.insert(name.to_owned(), value);
        put("kind", Value::from("file"));
        match &wanted {
            Wanted::Unknown => {
                put("content", veiled(Value::Unknown, hide));
                put("sha256", veiled(Value::Unknown, hide));
                put("size", veiled(Value::Unknown, hide));
            }
            Wanted::Retained if seen("sha256").is_none() => {
                return Err(lost(text(&request.desired, "path").unwrap_or_default()));
            }
            Wanted::Retained => {}
            known => {
                let sha256 = known.sha256().unwrap_or_default();
                let unread = seen("content").is_none() && seen("sha256").and_then(Value::as_str) == Some(&sha256);
                if let Some(text) = known.bytes().and_then(readable).filter(|_| !unread) {
                    put("content", veiled(text, hide));
                }
                put("sha256", veiled(sha256, hide));
                put("size", veiled(known.size() as i64, hide));
            }
        }
        let mut proposal = propose(self, request, planned);
        if request.foreign && seen("kind").and_then(Value::as_str) == Some("symbolic link") {
            proposal.consequences.push(Consequence::Overwrite);
        }
        if let Some(kind) = observed.and_then(|o| o.private["kind"].as_str()).filter(|k| !k.starts_with("regular")) {
            match kind {
                "directory" => proposal.consequences.push(in_the_way(kind)),
                _ => proposal.notes.push(format!("there is a {kind} at the path")),
            }
        }
        Ok(proposal)
    }

    fn act(&self, operation: &Operation, subject: &Subject, sources: &Sources) -> Result<Step, ProviderError> {
        let path = subject.text("path").unwrap_or_default();
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(Step::quick(remove(path, subject)));
        }
        // What is retained is already as it was observed: the content itself, or nothing where it is too big to have been read.
        let wanted = match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => Wanted::of(desired, sources)?,
            OperationAction::Delete => Wanted::Retained,
        };
        let now = operation.observed.as_ref().and_then(|o| o.attributes.get("sha256")?.as_str());
        let stays = matches!(wanted, Wanted::Retained) || (now.is_some() && now == wanted.sha256().as_deref());
        if stays && now.is_none() {
            return Err(lost(path));
        }
        if stays {
            return Ok(Step::quick(format!("P={}; held \"$P\"\n{}", quote(path), mode::set(&subject.attributes))));
        }
        Ok(write(path, &wanted, subject, foreign(operation)))
    }

    fn private(&self, subject: &Subject, seen: &Section) -> serde_json::Value {
        match (subject.private.get("backup"), seen.text("backup")) {
            (Some(first), _) => json!({ "backup": first }),
            (None, Some(backup)) => json!({ "backup": backup }),
            (None, None) => serde_json::Value::Null,
        }
    }
}

/// The failure to make again what nothing can say any more.
fn lost(path: &str) -> ProviderError {
    ProviderError::new(Class::Failed, format!("{path} is gone, and its content cannot be made again"))
        .help("it held something that was used up (a token that expired): replace the resource that it comes from with --replace")
}

/// Is what is there something that moorfast did not write?
fn foreign(operation: &Operation) -> bool {
    let observed = operation.observed.as_ref().and_then(|o| o.attributes.get("sha256"));
    let recorded = operation.recorded.as_ref().and_then(|r| r.attributes.get("sha256"));
    match (observed.and_then(Value::as_str), recorded) {
        (None, _) => false,
        (Some(now), Some(serde_json::Value::String(then))) => now != then,
        // A sealed digest cannot be compared here: what moorfast itself wrote last is only ours.
        (Some(_), Some(_)) => false,
        (Some(_), None) => true,
    }
}

fn write(path: &str, wanted: &Wanted, subject: &Subject, foreign: bool) -> Step {
    let attributes = &subject.attributes;
    let directory = parent(path);
    let parents = match flag(attributes, "parents") {
        true => "[ -d \"$D\" ] || mkdir -p -- \"$D\"".to_owned(),
        false => format!(
            "[ -d \"$D\" ] || fail failed {}",
            quote(&format!("there is no directory {directory} (make it with ssh_directory, or set parents = true)"))
        ),
    };
    let (fill, upload) = match (wanted.bytes(), wanted) {
        (None, Wanted::Local(source)) => (receive(source), Some((source.path.clone(), source.size))),
        // cat says why it cannot write, which base64 does not always.
        (bytes, _) => (format!("{} | cat >&6", print_bytes(bytes.unwrap_or_default())), None),
    };
    let keep = match written(attributes, "owner") || written(attributes, "group") {
        true => "",
        false => "[ ! -e \"$P\" ] || chown --reference=\"$P\" -- /proc/self/fd/6 2>/dev/null || true",
    };
    let backup = match flag(attributes, "backup") && foreign {
        true => {
            "B=\"$P.moorfast-backup-$(date -u +%Y%m%dT%H%M%SZ)\"; cp -aT --remove-destination -- \"$P\" \"$B\"; printf %s \"$B\" | blob backup; note \"what was there is kept as $B\""
        }
        false => "",
    };
    let body = format!(
        "P={path}; D={directory}
{parents}
kind \"$P\"; [ \"$K\" != directory ] || fail conflict 'there is a directory at that path'
opened \"$D\"
{fill}
{keep}
{owner}sync -- /proc/self/fd/6
exec 6>&-
{validate}{backup}
if ! E=$(mv -fT -- \"$T\" \"$P\" 2>&1); then
  case $E in *'resource busy'*) cat < \"$T\" > \"$P\"; held \"$P\"; {owner_in_place} ;; *) fail failed \"$E\" ;; esac
fi
sync -- \"$D\"",
        path = quote(path),
        directory = quote(directory),
        owner = mode::set(attributes),
        owner_in_place = mode::set(attributes).replace('\n', "; "),
        validate = validation(attributes, secret(attributes)),
    );
    let limit = upload.as_ref().map(|(_, size)| Duration::from_secs(300 + size / (256 << 10)));
    Step { long: upload.is_some(), upload, limit, ..Step::quick(body) }
}

fn receive(source: &Source) -> String {
    format!(
        "head -c {} <&3 >&6; watch
S=$(sha256sum < /proc/self/fd/6); [ \"${{S%% *}}\" = {} ] || fail failed {}",
        source.size,
        source.sha256,
        quote(&format!(
            "{} did not arrive as it was: it changed meanwhile, or the connection broke off",
            source.path.display()
        ))
    )
}

fn validation(attributes: &Attributes, hide: bool) -> String {
    let Some(value) = attributes.get("validate") else { return String::new() };
    let command = match value.as_str() {
        Some(line) if line.trim().is_empty() => return String::new(),
        Some(line) => script::written(&line.replace("%s", "\"$T\"")),
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
            "B={}; if [ -e \"$B\" ] || [ -L \"$B\" ]; then mv -fT -- \"$B\" \"$P\"; note \"what was there before is put back from $B\"; fi",
            quote(backup)
        ),
        None => String::new(),
    };
    format!("P={}\nrm -f -- \"$P\"\n{back}", quote(path))
}

//! `ssh_archive`: an archive, unpacked into a directory.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, Redaction,
    TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::{Resource, ShellTask, absolute_path, parent};
use crate::object_answer::Answer;
use crate::script::{quote, quote_all};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_archive`.
pub(crate) struct Archive;

/// The archive formats: the extension, and the option with which tar unpacks the format; none for zip.
const FORMS: &[(&str, Option<&str>)] = &[
    (".tar", Some("")),
    (".tar.gz", Some("-z")),
    (".tgz", Some("-z")),
    (".tar.xz", Some("-J")),
    (".txz", Some("-J")),
    (".tar.bz2", Some("-j")),
    (".tar.zst", Some("--zstd")),
    (".zip", None),
];

const UNZIP: &str = include_str!("archive/unzip.sh");

const PATH_CHECKS: &str = include_str!("archive/path_checks.sh");

const PREPARE: &str = include_str!("archive/prepare.sh");

const BEGIN: &str = include_str!("archive/begin.sh");

const FETCH: &str = include_str!("archive/fetch.sh");

const DESTROY: &str = include_str!("archive/destroy.sh");

const MOVE: &str = include_str!("archive/move.sh");

const SET_MODES: &str = include_str!("archive/set_modes.sh");

const REMOVE: &str = include_str!("archive/remove.sh");

const INTACT: &str = include_str!("archive/intact.sh");

impl Resource for Archive {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "An archive, unpacked into a directory. It is unpacked into a temporary directory and moved into place file by file; then the files of the previous version are removed. \
             New directories have the modes of the archive; existing directories keep their modes. A file or directory that did not come from the archive is never replaced by an object of another kind. \
             The marker file `.moorfast-archive-NAME` in the directory lists the checksum and the files. If a file is missing or was changed, the archive is unpacked again. \
             A destroy removes the files of the archive and the directories that are then empty.",
            [
                Attribute::required(
                    "path",
                    Kind::String,
                    "The directory to unpack into: an absolute path. It is created if it does not exist.",
                )
                .replaces(),
                Attribute::optional(
                    "name",
                    Kind::String,
                    "A name that distinguishes several archives in one directory: letters, digits, `-` and `_`.",
                )
                .or("archive")
                .replaces(),
                Attribute::optional(
                    "source",
                    Kind::String,
                    "The archive on this machine. A relative path starts at the folder of the manifest. Exactly one of `source` and `url` is required.",
                ),
                Attribute::optional(
                    "url",
                    Kind::String,
                    "The address from which the node downloads the archive with curl or wget. May be sensitive.",
                ),
                Attribute::required(
                    "sha256",
                    Kind::String,
                    "The SHA-256 checksum of the archive, 64 hexadecimal digits. An archive with another checksum is not unpacked.",
                ),
                Attribute::optional(
                    "format",
                    Kind::OneOf(&["tar", "tar.gz", "tar.xz", "tar.bz2", "tar.zst", "zip"]),
                    "The format of the archive. Default: from the extension of `source` or `url`.",
                ),
                Attribute::optional(
                    "strip_components",
                    Kind::Integer,
                    "How many leading directories are removed from the names in the archive.",
                )
                .or(0),
                Attribute::optional(
                    "include",
                    Kind::list(Kind::String),
                    "The members of a tar archive to unpack, by their full names in the archive. Default: all.",
                ),
                Attribute::optional(
                    "owner",
                    Kind::String,
                    "The user that owns the files, by name or number. Default: the user that moorfast runs as on the node.",
                ),
                Attribute::optional(
                    "group",
                    Kind::String,
                    "The group of the files, by name or number. Default: as for `owner`.",
                ),
                Attribute::computed(
                    "intact",
                    Kind::Bool,
                    "Whether all files are present and unchanged since they were unpacked.",
                ),
            ],
        );
        Declaration { name: "ssh_archive", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = |attribute, message: &str, help: &str| Invalid {
            attribute,
            message: message.to_owned(),
            help: Some(help.to_owned()),
        };
        let mut found: Vec<Invalid> = absolute_path(attributes, "path").into_iter().collect();
        if attributes.is_set("source") == attributes.is_set("url") {
            found.push(invalid(None, "exactly one of `source` and `url` is required", "write `source` or `url`"));
        }
        if let Some(sum) = attributes.text("sha256")
            && !is_sha256(sum)
        {
            found.push(invalid(
                Some("sha256"),
                "sha256 is not a SHA-256 checksum",
                "write 64 hexadecimal digits, as sha256sum prints them",
            ));
        }
        if let Some(name) = attributes.text("name")
            && (name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        {
            let help = "use letters, digits, `-` and `_`";
            found.push(invalid(Some("name"), "name is not valid as part of a file name", help));
        }
        let known = ["source", "url"].iter().any(|name| attributes.text(name).is_some());
        if known && form(attributes).is_none() {
            found.push(invalid(Some("format"), "the file name has no known archive extension", "set `format`"));
        }
        if attributes.get("strip_components").and_then(Value::as_i64).is_some_and(|n| n < 0) {
            found.push(invalid(Some("strip_components"), "strip_components must not be negative", "write 0 or more"));
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("archive:{}/{}", attributes.text("path")?, attributes.text("name").unwrap_or("archive")))
    }

    fn source(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("source").map(str::to_owned)
    }

    fn settings(&self) -> &'static [&'static str] {
        &["source", "url", "format", "strip_components", "include", "owner", "group"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["sha256", "intact"]
    }

    fn read_script(&self, subject: &Subject) -> String {
        format!(
            "{}
{INTACT}
if [ -f \"$M\" ] && [ ! -L \"$M\" ]; then
  read -r X < \"$M\"; field sha256 \"$X\"
  if intact; then field intact yes; fi
fi",
            places(subject)
        )
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let Some(sha256) = answer.own.field("sha256").filter(|sum| is_sha256(sum)) else { return Ok(None) };
        let mut attributes = Attributes::from([
            ("sha256".to_owned(), Value::from(sha256)),
            ("intact".to_owned(), Value::from(answer.own.is("intact"))),
        ]);
        for name in ["path", "name"] {
            if let Some(value) = subject.attributes.get(name) {
                attributes.insert(name.to_owned(), value.clone());
            }
        }
        Ok(Some(Observed { attributes, private: json!(null) }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if let Some(sum) = planned.text("sha256").map(str::to_lowercase) {
            planned.insert("sha256".to_owned(), Value::from(sum));
        }
        planned.insert("intact".to_owned(), Value::from(true));
        Ok(propose(self, request, planned))
    }

    fn apply_script(
        &self,
        operation: &Operation,
        subject: &Subject,
        sources: &Sources,
    ) -> Result<ShellTask, ProviderError> {
        let places = places(subject);
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::long(format!("{places}\n{PATH_CHECKS}{REMOVE}{DESTROY}")));
        }
        let attributes = &subject.attributes;
        let sum = attributes.text("sha256").unwrap_or_default().to_lowercase();
        let (fetch, upload) = match attributes.text("source") {
            Some(name) => {
                let source = sources.get(name)?;
                if source.sha256 != sum {
                    let summary = format!(
                        "the SHA-256 of {} is not the one in the manifest: {}",
                        source.path.display(),
                        source.sha256
                    );
                    return Err(ProviderError::new(Class::Invalid, summary).attribute("sha256"));
                }
                (format!("head -c {} <&3 > \"$Z\"; watch", source.size), Some(source))
            }
            None => (fetch(attributes.text("url").unwrap_or_default()), None),
        };
        let form = form(attributes)
            .ok_or_else(|| ProviderError::new(Class::Invalid, "the format of the archive is unknown"))?;
        let include = attributes.texts("include");
        let include = quote_all(include.iter().map(String::as_str));
        let unpack = match form {
            Some(option) => format!(
                "tar -x {option} -p --no-same-owner --strip-components=\"$strip\" -C \"$S\" -f \"$Z\" -- {include}"
            ),
            None => UNZIP.to_owned(),
        };
        let strip = attributes.get("strip_components").and_then(Value::as_i64).unwrap_or_default();
        let owner = owner(attributes).map(|owner| format!("set_owner {}", quote(&owner))).unwrap_or_default();
        let body = format!(
            "{places}
{PATH_CHECKS}{REMOVE}{BEGIN}{fetch}
verify {sum}
strip={strip}
{unpack}
{owner}
{PREPARE}mark_unfinished
{MOVE}remove \"$S.gone\"
{SET_MODES}mark_finished"
        );
        Ok(ShellTask {
            upload,
            limit: Some(Duration::from_secs(1800)),
            secrets: Redaction::of(attributes.get("url")),
            ..ShellTask::long(body)
        })
    }
}

/// Returns shell variables: the directory, its parent and the marker.
fn places(subject: &Subject) -> String {
    let path = subject.text("path").unwrap_or_default();
    let marker = format!("{path}/.moorfast-archive-{}", subject.text("name").unwrap_or("archive"));
    format!("P={}; D={}; M={}", quote(path), quote(parent(path)), quote(&marker))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn form(attributes: &Attributes) -> Option<Option<&'static str>> {
    let ending = match attributes.text("format") {
        Some(format) => format!(".{format}"),
        None => attributes.text("source").or(attributes.text("url"))?.split(['?', '#']).next()?.to_owned(),
    };
    FORMS.iter().filter(|(end, _)| ending.ends_with(end)).max_by_key(|(end, _)| end.len()).map(|(_, option)| *option)
}

/// Returns shell that downloads `url` into `$Z`.
fn fetch(url: &str) -> String {
    let in_config = url.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    let config = format!("url = \"{in_config}\"");
    format!("{FETCH}url={} config={}\nfetch", quote(url), quote(&config))
}

/// Returns the owner of the unpacked files, as chown reads it.
fn owner(attributes: &Attributes) -> Option<String> {
    let name = |attribute| attributes.text(attribute).filter(|name| !name.is_empty());
    match (name("owner"), name("group")) {
        (None, None) => None,
        (Some(owner), None) => Some(owner.to_owned()),
        (owner, Some(group)) => Some(format!("{}:{group}", owner.unwrap_or_default())),
    }
}

//! `ssh_file_block`: a block of lines in a file that others write too.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use serde_json::json;

use super::file_block_text::{self, Damage, is_marker, is_name, marker};
use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE, absolute_path};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, print_bytes, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_file_block`.
pub(crate) struct FileBlock;

const FUNCTIONS: &str = include_str!("file_block/functions.sh");

/// The largest block, in bytes. A larger text is a file of its own.
const LARGEST: usize = 256 << 10;

impl Resource for FileBlock {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A block of lines in a file that others write too, such as `/etc/hosts`. The lines `# BEGIN moorfast NAME` and `# END moorfast NAME` surround it. \
             Everything outside of the block stays as it is, also the owner, the permissions and the line endings of the file. Several blocks in one file do not disturb each other. \
             The file is replaced in one step; a symbolic link at the path is never followed or replaced. A block whose marker lines are damaged is an error, and the file is not changed. \
             A destroy removes the block, and the file if moorfast created it and nothing else is in it.",
            [
                Attribute::required("path", Kind::String, "The absolute path of the file.").replaces(),
                Attribute::required(
                    "name",
                    Kind::String,
                    "The name of the block, unique in the file: letters, digits, `.`, `_` and `-`.",
                )
                .replaces(),
                Attribute::required(
                    "content",
                    Kind::String,
                    "The lines of the block, up to 256 KiB. A sensitive value is never shown.",
                ),
                Attribute::optional(
                    "comment",
                    Kind::String,
                    "The characters that begin a comment in the file. They begin the marker lines.",
                )
                .or("#"),
                Attribute::optional(
                    "after",
                    Kind::String,
                    "An extended regular expression, as for `grep -E`. A new block goes after the last line that matches, outside of other blocks. If no line matches, and by default, a new block goes to the end of the file. An existing block is never moved.",
                ),
                Attribute::optional(
                    "before",
                    Kind::String,
                    "As `after`, but a new block goes before the first line that matches.",
                ),
                Attribute::optional("create", Kind::Bool, "Whether a missing file is created (mode 0644).")
                    .or(false)
                    .instruction(),
            ],
        );
        Declaration { name: "ssh_file_block", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid: Vec<Invalid> = absolute_path(attributes, "path").into_iter().collect();
        if let Some(name) = attributes.text("name").filter(|name| !is_name(name)) {
            let message = format!("`{name}` is not a valid name of a block");
            invalid.push(Invalid::new("name", message).help("use letters, digits, `.`, `_` and `-`"));
        }
        let single = |c: &str| !c.is_empty() && c.trim() == c && !c.contains(['\n', '\r', '\0']);
        if attributes.text("comment").is_some_and(|comment| !single(comment)) {
            let message = "comment must not be empty, nor contain a line break or outer spaces".to_owned();
            invalid.push(
                Invalid::new("comment", message).help("write the characters that begin a comment: \"#\", \"//\""),
            );
        }
        if let Some(content) = attributes.text("content") {
            let problem = if content.contains(['\r', '\0']) {
                Some((
                    "content must not contain a carriage return or a zero byte",
                    "end lines with \\n: the line endings of the file are kept",
                ))
            } else if content.lines().any(is_marker) {
                Some((
                    "content must not contain a marker line of a block",
                    "write each block as an ssh_file_block of its own",
                ))
            } else if content.len() > LARGEST {
                Some(("content is larger than 256 KiB", "write a file of its own with ssh_file"))
            } else {
                None
            };
            invalid.extend(problem.map(|(message, help)| Invalid::new("content", message.to_owned()).help(help)));
        }
        if attributes.is_set("after") && attributes.is_set("before") {
            let message = "`after` and `before` cannot be combined".to_owned();
            invalid.push(Invalid::new("before", message).help("write one of them"));
        }
        for name in ["after", "before"] {
            if attributes.text(name).is_some_and(|line| line.contains(['\n', '\0'])) {
                invalid.push(Invalid::new(name, format!("{name} must be a single line")));
            }
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("block:{}#{}", attributes.text("path")?, attributes.text("name")?))
    }

    fn settings(&self) -> &'static [&'static str] {
        &["after", "before", "create"]
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["content"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        let Some(path) = subject.text("path") else { return Vec::new() };
        vec![Topic::Path.of(path), Topic::Blocks.of(path)]
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let (path, name) = (subject.text("path").unwrap_or_default(), subject.text("name").unwrap_or_default());
        let Some(blocks) = answer.node.blocks(path) else { return Ok(None) };
        let found = file_block_text::find(blocks, name).map_err(|damage| damaged(damage, path, name))?;
        let Some(block) = found else { return Ok(None) };
        let mut attributes = Attributes::from([
            ("content".to_owned(), Value::from(block.text.as_str())),
            ("comment".to_owned(), Value::from(block.comment.as_str())),
        ]);
        for name in ["path", "name"] {
            attributes.extend(subject.attributes.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        // With or without the last line break, the block is the same.
        if let Some(content) = planned.get_mut("content")
            && let Some(written) = content.as_str().map(lines)
        {
            *content = if content.is_sensitive() { Value::from(written).sensitive() } else { Value::from(written) };
        }
        Ok(propose(self, request, planned))
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let start = places(subject);
        if matches!(operation.action, OperationAction::Delete) {
            let open_end = subject.private["open_end"].as_str().unwrap_or_default();
            let clean_up = match subject.private["created"] == true {
                true => "if [ ! -s /proc/self/fd/6 ]; then rm -f -- \"$P\"; exit 0; fi\n",
                false => "",
            };
            return Ok(ShellTask::quick(format!(
                "{start}
kind \"$P\"; case $K in regular*) ;; *) exit 0 ;; esac
open_text \"$P\"
find_block; [ -n \"$FIRST\" ] || exit 0
OPEN_END={open_end}
remove_block
{clean_up}save_text \"$P\""
            )));
        }
        let attributes = &subject.attributes;
        let side = |side: &str| {
            let comment = attributes.text("comment").unwrap_or_default();
            quote(&marker(comment, side, attributes.text("name").unwrap_or_default()))
        };
        let line = ["after", "before"].into_iter().find_map(|place| Some((place, attributes.text(place)?)));
        let (place, line) = line.unwrap_or(("end", ""));
        let missing = match attributes.flag("create") {
            true => String::new(),
            false => format!(
                "[ \"$K\" != absent ] || fail failed {}\n",
                quote(&format!("the file does not exist ({MISSING})"))
            ),
        };
        Ok(ShellTask::quick(format!(
            "{start}PLACE={place} LINE={line}
printed_block() {{ printf '%s\\n' {begin}; {content}; printf '%s\\n' {end}; }}
open_text \"$P\"
{missing}write_block
save_text \"$P\"",
            line = quote(line),
            begin = side("BEGIN"),
            content = print_bytes(lines(attributes.text("content").unwrap_or_default()).as_bytes()),
            end = side("END"),
        )))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        match (subject.private.is_null(), answer.is("created"), answer.field("open_end")) {
            (true, false, None) | (false, ..) => subject.private.clone(),
            (true, created, open_end) => json!({ "created": created, "open_end": open_end }),
        }
    }
}

/// How to get a missing file.
pub(crate) const MISSING: &str = "create it with ssh_file, or set create = true";

/// Returns shell that reports why a block could not be written: what is at `path`, and whether the regular expression is valid.
pub(crate) fn precondition(path: &str, desired: &Attributes) -> String {
    let missing = if desired.flag("create") { "" } else { "field no.file yes" };
    let line = ["after", "before"].into_iter().find_map(|place| desired.text(place));
    let check = line.map(|line| {
        format!(
            "\nX=$(grep -E -e {} /dev/null 2>&1) || [ $? = 1 ] || printf %s \"${{X#grep: }}\" | blob bad.pattern",
            quote(line)
        )
    });
    format!(
        "\nkind {}; case $K in regular*) ;; absent) {missing} ;; *) printf %s \"$K\" | blob other.kind ;; esac{}",
        quote(path),
        check.unwrap_or_default()
    )
}

/// Returns `content` with a line break at the end of each line.
fn lines(content: &str) -> String {
    match content.strip_suffix('\n').unwrap_or(content) {
        "" if !content.contains('\n') => String::new(),
        lines => format!("{lines}\n"),
    }
}

/// Returns shell variables and functions: the file, the block, and how to repair it.
fn places(subject: &Subject) -> String {
    let (path, name) = (subject.text("path").unwrap_or_default(), subject.text("name").unwrap_or_default());
    format!(
        "P={}; PATTERN={}; REMOVE_ONE={}; RESTORE={}\n{TEXT_FILE}{FUNCTIONS}",
        quote(path),
        quote(&name.replace('.', "[.]")),
        quote(&remedy(Damage::Twice, path, name)),
        quote(&remedy(Damage::NoEnd, path, name)),
    )
}

fn damaged(damage: Damage, path: &str, name: &str) -> ProviderError {
    let summary = format!("the block `{name}` in {path} is damaged: {}", damage.description());
    ProviderError::new(Class::Conflict, summary).help(remedy(damage, path, name))
}

/// Returns what to do about a damaged block.
fn remedy(damage: Damage, path: &str, name: &str) -> String {
    match damage {
        Damage::Twice => {
            format!("keep one of the blocks `{name}` in {path} and delete the other one, with its marker lines")
        }
        Damage::NoEnd | Damage::NoBegin => format!(
            "restore the missing line in {path}, or delete the other marker line of `{name}` and the lines of the block: the next apply writes them again"
        ),
    }
}

//! The resource types, one file each, and their common parts.

mod account;
mod archive;
mod container_image;
mod directory;
pub(crate) mod exec;
pub(crate) mod facts;
mod file;
pub(crate) mod file_block;
mod file_block_text;
mod fstab;
mod group;
mod hostname;
mod kernel_module;
mod link;
mod mode;
mod mount;
mod nftables_ruleset;
pub(crate) mod nftables_table;
mod package;
mod proposal;
mod reboot;
mod repository;
mod repository_apt;
mod repository_dnf;
mod rules;
mod swap;
pub(crate) mod sysctl;
mod sysctl_boot;
mod sysctl_value;
pub(crate) mod timezone;
mod transaction;
pub(crate) mod unit;
mod upload;
mod user;

use std::sync::Arc;
use std::time::Duration;

use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{
    Consequence, Declaration, Invalid, Need, Observed, Operation, PlanRequest, Proposal, ProviderError, Redaction,
};
use moorfast_engine::state::Record;
use zeroize::Zeroizing;

pub(crate) use self::rules::{absolute_path, no_interpreter_line, not_sensitive};
use crate::object_answer::Answer;
pub(crate) use crate::path::parent;
use crate::question::{Question, Topic};
use crate::script::Section;
use crate::sources::{Source, Sources};
use crate::subject::Subject;
use crate::writes::Write;

/// All resource types.
pub(crate) const RESOURCES: &[&dyn Resource] = &[
    &repository_apt::APT,
    &archive::Archive,
    &container_image::ContainerImage,
    &directory::Directory,
    &repository_dnf::DNF,
    &exec::Exec,
    &file::File,
    &file_block::FileBlock,
    &group::Group,
    &hostname::Hostname,
    &kernel_module::KernelModule,
    &link::Link,
    &mount::Mount,
    &nftables_table::NftablesTable,
    &package::Package,
    &reboot::Reboot,
    &swap::Swap,
    &sysctl::Sysctl,
    &timezone::Timezone,
    &unit::Unit,
    &user::User,
];

/// Shell functions that change a text file that others write too.
const TEXT_FILE: &str = include_str!("text_file/functions.sh");

/// A resource type: its schema, and how its objects are read, planned and changed.
pub(crate) trait Resource: Send + Sync {
    /// Returns the name and the schema. It is called once.
    fn declaration(&self) -> Declaration;

    /// Checks rules beyond the schema.
    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Returns the identity within a node, unique over all types: `KIND:NAME`.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Whether `attributes` still mean the object of `record`.
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.identity(attributes).is_some_and(|identity| identity == record.identity)
    }

    /// Returns what the type needs of a node besides a shell and coreutils.
    fn need(&self) -> Option<Need> {
        None
    }

    /// Returns the path of the local file that is sent, as written in the manifest.
    fn source(&self, _attributes: &Attributes) -> Option<String> {
        None
    }

    /// Returns the attributes that control moorfast and cannot be read from the node. Their observed value is the one of the last apply.
    fn settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the attributes whose values are lost if an object that is not in the state is changed. Empty for a type without content.
    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the attribute with a command of the manifest that a read runs.
    fn command_of_read(&self, _attributes: &Attributes) -> Option<&'static str> {
        None
    }

    /// Returns the questions about the node that the reading of the object needs, with those that the answers so far raise. Questions that were not asked
    /// yet cost another exec on the node, unless no answer is known yet.
    fn questions(&self, _subject: &Subject, _answer: &Answer) -> Vec<Question> {
        Vec::new()
    }

    /// Returns shell that reports in fields what no question asks. It changes nothing.
    fn read_script(&self, _subject: &Subject) -> String {
        String::new()
    }

    /// Returns the object, without settings, or `None` if it does not exist.
    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError>;

    /// Returns the change that would be made.
    fn plan(&self, request: &PlanRequest, sources: &Sources) -> Result<Proposal, ProviderError>;

    /// Returns shell that reports the side effects of a proposed change in fields, without changing anything. It runs only for changes.
    fn simulation(&self, _request: &PlanRequest) -> Option<String> {
        None
    }

    /// Adds the result of the simulation to `proposal`.
    fn add_simulation(&self, _request: &PlanRequest, _answer: &Section, _proposal: &mut Proposal) {}

    /// Returns shell that reports in fields the side effects of a removal, without changing anything.
    fn removal_simulation(&self, _record: &Record) -> Option<String> {
        None
    }

    /// Returns the consequences of a removal from the result of its simulation.
    fn removal_consequences(&self, _record: &Record, _answer: &Section) -> Vec<Consequence> {
        Vec::new()
    }

    /// Returns the shell that carries out `operation`. Unless it is a removal, the result is read after it.
    fn apply_script(
        &self,
        operation: &Operation,
        subject: &Subject,
        sources: &Sources,
    ) -> Result<ShellTask, ProviderError>;

    /// Returns shell that prints messages of the object, for the error of an object that depends on it.
    fn explain(&self, _subject: &Subject) -> Option<String> {
        None
    }

    /// Returns shell that fails unless the object is healthy and stays healthy for a moment, or `None` for a type without a health check.
    fn health(&self, _subject: &Subject) -> Option<String> {
        None
    }

    /// Returns the state from before the first change, which a destroy restores. After a success it equals [`Resource::private`].
    fn initial_private_data(&self, _desired: &Attributes, _observed: Option<&Observed>) -> Option<serde_json::Value> {
        None
    }

    /// Returns the private data to record. After a failed or interrupted operation `_answer` may be incomplete. The recorded private data of an object that was
    /// adopted or imported is that of its reading ([`Observed::private`]).
    fn private(&self, subject: &Subject, _answer: &Section) -> serde_json::Value {
        if subject.private.is_null() { subject.initial_private.clone() } else { subject.private.clone() }
    }
}

/// The shell code of an operation, with its upload and limits.
#[derive(Default)]
pub(crate) struct ShellTask {
    /// Shell, run under `set -e`.
    pub(crate) body: Zeroizing<String>,
    /// The object that the body writes, if it can be written together with others.
    pub(crate) write: Option<Write>,
    /// A file that is sent after the script. The script reads as many bytes from descriptor 3 and then calls `watch`.
    pub(crate) upload: Option<Arc<Source>>,
    /// The topics of questions about the object that the body answers itself, in its fields.
    pub(crate) answers: &'static [Topic],
    /// Whether the operation may take long, so that it gets an exec of its own.
    pub(crate) long: bool,
    /// Shell that runs before the result is read, if the body may request a reboot: after the machine has booted again.
    pub(crate) after_boot: Option<String>,
    /// Whether the operation uses the package manager, which permits one operation at a time and must not be interrupted.
    pub(crate) packages: bool,
    /// The default limit of the operation.
    pub(crate) limit: Option<Duration>,
    /// The secrets that are removed from its output.
    pub(crate) secrets: Redaction,
}

impl ShellTask {
    /// Returns a task that ends quickly.
    pub(crate) fn quick(body: impl Into<String>) -> Self {
        Self { body: Zeroizing::new(body.into()), ..Self::default() }
    }

    /// Returns a task that may take long.
    pub(crate) fn long(body: impl Into<String>) -> Self {
        Self { long: true, ..Self::quick(body) }
    }
}

/// Returns the object as messages name it: by its path, or by its kind and name.
pub(crate) fn label(resource: &dyn Resource, subject: &Subject) -> String {
    let identity = resource.identity(&subject.attributes).unwrap_or_default();
    match identity.split_once(':') {
        Some(("path", path)) => path.to_owned(),
        Some((kind, name)) => format!("{kind} {name}"),
        None => identity,
    }
}

/// Returns the obstacle that an object of another `kind` is at the path.
pub(crate) fn path_obstacle(kind: &str) -> Consequence {
    Consequence::Obstacle { message: format!("there is a {kind} at the path") }
}

#[cfg(test)]
mod tests;

//! The manifest: TOML, from one file or a folder, as typed blocks of expressions.

mod blocks;
mod format;
pub(crate) mod http_block;
mod inventory;
pub(crate) mod load;
pub(crate) mod locals;
mod policy;
pub(crate) mod reader;
pub(crate) mod references;
mod resource;
mod rollout;
pub(crate) mod schema_check;
mod terraform;
#[cfg(test)]
pub(crate) mod tests;
mod variable;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use moorfast_state::Digest;

use crate::expression::Expr;
use crate::model::{Address, ResourceAddress, Sources, Span, Value};

pub use format::format;
pub use http_block::HTTP;
pub use inventory::{evaluate_for_each, evaluate_inventory, node_value, select_nodes};
pub use locals::StaticScope;
pub use policy::{Policy, PolicySeverity};
pub use rollout::{GateName, MaxUnavailable, Rollout};
pub use schema_check::check_attributes;
pub use variables::Assignments;

/// A manifest, read and checked as far as that goes without values.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The folder of the manifest.
    pub root: PathBuf,
    /// The folder of moorfast's own things if the manifest is somebody else's; see [`Files::untrusted`](crate::expression::Files).
    pub untrusted: Option<PathBuf>,
    /// Its texts.
    pub sources: Sources,
    /// The digest over its texts, in the order of their names.
    pub digest: Option<Digest>,
    /// `[variables.NAME]`
    pub variables: BTreeMap<String, Variable>,
    /// `[locals]`
    pub locals: BTreeMap<String, Expr>,
    /// `[nodes.NAME]`
    pub nodes: BTreeMap<String, NodeBlock>,
    /// `[providers.NAME]`, `[providers.NAME.ALIAS]` by `NAME` or `NAME.ALIAS`
    pub providers: BTreeMap<String, ProviderBlock>,
    /// `[backend.TYPE]`
    pub backend: Option<(String, Block)>,
    /// `[resource.TYPE.NAME]` and `[data.TYPE.NAME]`
    pub resources: BTreeMap<ResourceAddress, Resource>,
    /// `[check.NAME]`
    pub checks: BTreeMap<String, Check>,
    /// `[policy.NAME]`
    pub policies: BTreeMap<String, Policy>,
    /// `[rollout.NAME]`
    pub rollouts: BTreeMap<String, Rollout>,
    /// `[outputs.NAME]`
    pub outputs: BTreeMap<String, Output>,
    /// `[[moved]]`
    pub moved: Vec<Moved>,
    /// `[[import]]`
    pub imports: Vec<Import>,
    /// `[[removed]]`
    pub removed: Vec<Removed>,
}

/// The place and the attributes of a block: the name, the place of the name, and the value of each.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its header, or the whole of an inline table.
    pub span: Span,
    /// Its attributes, in the order they are written.
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `[providers.NAME]` or `[providers.NAME.ALIAS]`.
#[derive(Clone, Debug)]
pub struct ProviderBlock {
    /// Its header, or the whole of an inline table.
    pub span: Span,
    /// All that it makes comes after these, which bring up what it connects to.
    pub depends_on: Vec<(Address, Span)>,
    /// What the provider takes.
    pub attributes: Vec<(String, Span, Expr)>,
}

/// An input of the manifest.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its header.
    pub span: Span,
    /// The type that its value must have.
    pub kind: VariableType,
    /// The value where none is given; a variable without one is required.
    pub default: Option<Value>,
    /// What it is for.
    pub description: Option<String>,
    /// Is its value never shown or stored?
    pub sensitive: bool,
    /// What its value must satisfy; `var.NAME` is the only reference.
    pub validations: Vec<Condition>,
}

/// The type of a variable: `any`, `string`, `number`, `bool`, `list(T)`, `set(T)`, `map(T)`, `object({ name = T, … })`, `optional(T)` inside an object.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum VariableType {
    /// Whatever is given.
    #[default]
    Any,
    /// Text.
    String,
    /// An integer or a float.
    Number,
    /// `true` or `false`.
    Bool,
    /// A list.
    List(Box<VariableType>),
    /// A list of values, each once and sorted.
    Set(Box<VariableType>),
    /// A map.
    Map(Box<VariableType>),
    /// An object with these attributes.
    Object(BTreeMap<String, ObjectAttribute>),
}

/// An attribute of an object type.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectAttribute {
    /// The type of its value.
    pub kind: VariableType,
    /// The value of an attribute that is not written or null; `None` for an attribute that must be written.
    pub default: Option<Value>,
}

/// A condition and what to say where it does not hold.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Must be true.
    pub condition: Expr,
    /// Said where it is not.
    pub error_message: Expr,
}

/// `[nodes.NAME]`: its attributes may refer to variables and locals.
#[derive(Clone, Debug)]
pub struct NodeBlock {
    /// Its header.
    pub span: Span,
    /// `address, user, port, identity_file, jump, host_key, transport, sudo, roles, vars`
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `[resource.TYPE.NAME]` or `[data.TYPE.NAME]`.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its header.
    pub span: Span,
    /// Its address.
    pub address: ResourceAddress,
    /// Which nodes: `on = { role = "worker" }`, `{ roles = ["a", "b"] }` (any of them), `"gpu01"`, `["gpu01", "gpu02"]`, `"all"`.
    pub on: Option<Expr>,
    /// A list of strings or a map: one instance for each.
    pub for_each: Option<Expr>,
    /// Comes after these.
    pub depends_on: Vec<(Address, Span)>,
    /// Restarts when one of these changes.
    pub restart_on: Vec<(Address, Span)>,
    /// The provider instance, `NAME` or `NAME.ALIAS`; the type's own where not written.
    pub provider: Option<(String, Span)>,
    /// Rules of its life.
    pub lifecycle: Lifecycle,
    /// Must hold before it is planned.
    pub preconditions: Vec<Condition>,
    /// Must hold after it was applied, and of what is observed.
    pub postconditions: Vec<Condition>,
    /// How long operations may take: `create`, `read`, `update`, `delete`.
    pub timeouts: BTreeMap<String, Duration>,
    /// What its type takes.
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `lifecycle = { … }`
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// A plan that would destroy it is an error.
    pub prevent_destroy: bool,
    /// Differences in these attributes are no change: paths such as `content` or `manifest.spec.replicas`; `["all"]` for every one.
    pub ignore_changes: Vec<(String, Span)>,
    /// A replacement makes the new object before it removes the old one.
    pub create_before_destroy: bool,
    /// Is replaced when one of these changes.
    pub replace_triggered_by: Vec<(Address, Span)>,
}

/// `[check.NAME]`: looks at the world, never changes it, and warns.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its header.
    pub span: Span,
    /// Which nodes, as of a resource.
    pub on: Option<Expr>,
    /// One instance for each, as of a resource.
    pub for_each: Option<Expr>,
    /// Looks only after these.
    pub depends_on: Vec<(Address, Span)>,
    /// `http = { url, method, ca, client_certificate, client_key, bearer_token, headers, body, expect_status, expect_body, timeout, retry_for }`
    pub http: Option<Expr>,
    /// Must hold; `self` is the response (`status`, `body`, `headers`) where there is `http`.
    pub assertions: Vec<Condition>,
}

/// `[outputs.NAME]`
#[derive(Clone, Debug)]
pub struct Output {
    /// Its header.
    pub span: Span,
    /// Its value.
    pub value: Expr,
    /// What it is.
    pub description: Option<String>,
    /// Is it never shown? (A sensitive value makes it so anyway.)
    pub sensitive: bool,
}

/// `[[moved]]`: what was recorded under `from` is now `to`.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Where it stands.
    pub span: Span,
    /// The old address.
    pub from: Address,
    /// The new address.
    pub to: Address,
}

/// `[[import]]`: what is there already under this address is taken over.
#[derive(Clone, Debug)]
pub struct Import {
    /// Where it stands.
    pub span: Span,
    /// The instance.
    pub to: Address,
}

/// `[[removed]]`: what was recorded under `from` is no longer in the manifest.
#[derive(Clone, Debug)]
pub struct Removed {
    /// Where it stands.
    pub span: Span,
    /// The old address.
    pub from: Address,
    /// Is it destroyed (or only forgotten)?
    pub destroy: bool,
}

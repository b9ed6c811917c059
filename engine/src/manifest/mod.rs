//! The manifest: the blocks of its TOML files as types, with unevaluated expressions.

mod blocks;
pub(crate) mod environment;
mod files;
mod format;
pub(crate) mod http_block;
mod inventory;
mod key_store;
mod load;
mod loader;
pub(crate) mod locals;
mod module;
mod module_lock;
mod module_source;
mod module_tree;
mod node_attributes;
mod policy;
mod probe;
pub(crate) mod reader;
pub(crate) mod references;
mod resource;
mod rollout;
pub(crate) mod schema_check;
mod selectors;
pub(crate) mod syntax;
mod tables;
mod terraform;
#[cfg(test)]
pub(crate) mod tests;
mod value_cycles;
mod variable;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moorfast_state::{Digest, EnvironmentName};

use crate::expression::Expr;
use crate::model::{ModulePath, NodeName, Pattern, ResourceAddress, Sources, Span, Value};

pub use files::{is_manifest_file, is_rust_configuration};
pub use format::format;
pub use http_block::HTTP;
pub use inventory::{Inventory, Origin, evaluate_inventory};
pub use key_store::KEY_STORE;
pub use locals::StaticScope;
pub use module_lock::{LOCK_FILE, LockFile, LockedModule, fetched_folder, modules_folder, tree_digest};
pub use module_source::GitSource;
pub use node_attributes::node_value;
pub use policy::{Policy, PolicySeverity};
pub use probe::{Probe, ProbeKind};
pub use rollout::{Drain, GateName, MaxUnavailable, Rollout, RolloutName};
pub use schema_check::check_attributes;
pub use selectors::select_nodes;
pub(crate) use selectors::{each_value, for_each_members, has_unknown_keys, unknown_for_each};
pub use variables::Assignments;

/// A manifest that is parsed and checked, but not evaluated.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The folder of the manifest.
    pub root: PathBuf,
    /// The data folder of moorfast if the manifest is not trusted, see [`Files::untrusted`](crate::expression::Files).
    pub untrusted: Option<PathBuf>,
    /// Whether data sources must not run commands on this machine.
    pub no_local_commands: bool,
    /// Whether a secret without a key is unknown, see [`Files::secrets_can_be_unknown`](crate::expression::Files).
    pub secrets_can_be_unknown: bool,
    /// The source files.
    pub sources: Sources,
    /// The digest of the source files, in the order of their names, and of those of the modules.
    pub digest: Option<Digest>,
    /// The path of a module from the root, as its calls write it. Empty for the root.
    pub label: String,
    /// The folder to which the expressions of an untrusted manifest are limited. Default: `root`.
    pub boundary: Option<PathBuf>,
    /// `[variables.NAME]`
    pub variables: BTreeMap<String, Variable>,
    /// `[locals]`
    pub locals: BTreeMap<String, Expr>,
    /// `[nodes.NAME]`
    pub nodes: BTreeMap<String, NodeBlock>,
    /// `[providers.NAME]` and `[providers.NAME.ALIAS]`, by `NAME` or `NAME.ALIAS`
    pub providers: BTreeMap<String, ProviderBlock>,
    /// `[backend.TYPE]`
    pub backend: Option<(String, Block)>,
    /// `[keystore]`
    pub key_store: Option<Block>,
    /// `[environments.NAME]`
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// The chosen environment.
    pub environment: Option<EnvironmentName>,
    /// `[resource.TYPE.NAME]` and `[data.TYPE.NAME]`
    pub resources: BTreeMap<Arc<ResourceAddress>, Arc<Resource>>,
    /// `[check.NAME]`
    pub checks: BTreeMap<String, Check>,
    /// `[policy.NAME]`
    pub policies: BTreeMap<String, Policy>,
    /// `[rollout.NAME]`
    pub rollouts: BTreeMap<String, Rollout>,
    /// `[outputs.NAME]`
    pub outputs: BTreeMap<String, Output>,
    /// `[module.NAME]`
    pub modules: BTreeMap<String, ModuleCall>,
    /// `[[moved]]`
    pub moved: Vec<Moved>,
    /// `[[import]]`
    pub imports: Vec<Import>,
    /// `[[removed]]`
    pub removed: Vec<Removed>,
    /// `[[removed]]` of nodes.
    pub removed_nodes: Vec<RemovedNode>,
}

impl Manifest {
    /// Returns this manifest, in which secrets without a key are unknown, also in its modules.
    #[must_use]
    pub fn with_unknown_secrets(mut self) -> Self {
        self.secrets_can_be_unknown = true;
        for call in self.modules.values_mut() {
            call.manifest = Arc::new(Manifest::clone(&call.manifest).with_unknown_secrets());
        }
        self
    }

    /// Returns the module at `path`, without regard to keys.
    pub fn module(&self, path: &ModulePath) -> Option<&Manifest> {
        path.steps().iter().try_fold(self, |module, step| Some(&*module.modules.get(&step.name)?.manifest))
    }

    /// Whether the path leads through a module that could not be loaded.
    pub(crate) fn is_unloaded(&self, path: &ModulePath) -> bool {
        let mut module = self;
        for step in path.steps() {
            match module.modules.get(&step.name) {
                Some(call) if call.is_loaded => module = &call.manifest,
                call => return call.is_some(),
            }
        }
        false
    }

    /// Returns the call of the module at `path`, without regard to keys.
    pub fn call(&self, path: &ModulePath) -> Option<&ModuleCall> {
        let (called, outer) = path.steps().split_last()?;
        let caller = outer.iter().try_fold(self, |module, step| Some(&*module.modules.get(&step.name)?.manifest))?;
        caller.modules.get(&called.name)
    }

    /// Returns the block of a resource of this manifest or of one of its modules.
    pub fn resource(&self, address: &ResourceAddress) -> Option<&Resource> {
        if address.module.is_root() {
            return self.resources.get(address).map(AsRef::as_ref);
        }
        let own = ResourceAddress { module: ModulePath::root(), ..address.clone() };
        self.module(&address.module)?.resource(&own)
    }

    /// Returns the addresses of all modules and resources, without keys.
    pub fn addresses(&self) -> Vec<String> {
        let of_module = |(path, module): (ModulePath, &Manifest)| {
            let name = (!path.is_root()).then(|| path.to_string());
            let resources: Vec<_> = module.resources.keys().map(|address| address.within(&path).to_string()).collect();
            name.into_iter().chain(resources)
        };
        self.modules().into_iter().flat_map(of_module).collect()
    }

    /// Returns this manifest and all modules that it calls, directly or through other modules, with their paths.
    pub fn modules(&self) -> Vec<(ModulePath, &Manifest)> {
        let mut found = vec![(ModulePath::root(), self)];
        let mut next = 0;
        while let Some((path, module)) = found.get(next).cloned() {
            let called = module.modules.iter();
            found.extend(called.map(|(name, call)| (path.child(name, None), &*call.manifest)));
            next += 1;
        }
        found
    }
}

/// A block with attributes.
#[derive(Clone, Debug)]
pub struct Block {
    /// The place of the header, or of the whole inline table.
    pub span: Span,
    /// The attributes in the order of the file: name, place of the name, expression.
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `[providers.NAME]` or `[providers.NAME.ALIAS]`.
#[derive(Clone, Debug)]
pub struct ProviderBlock {
    /// The place of the header, or of the whole inline table.
    pub span: Span,
    /// The resources that start the API to which the provider connects. All its resources depend on them.
    pub depends_on: Vec<(Pattern, Span)>,
    /// The attributes of the provider's configuration.
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `[environments.NAME]`: one of the places to which the manifest is applied. Each has a state of its own.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The place of the header.
    pub span: Span,
    /// The values of variables: name, place of the name, value.
    pub variables: Vec<(String, Span, Value)>,
    /// The files with values of variables, relative to the folder of the manifest.
    pub var_files: Vec<(String, Span)>,
    /// The settings of the backend that replace those of `[backend.TYPE]`.
    pub backend: Vec<(String, Span, Expr)>,
}

/// `[variables.NAME]`: an input of the manifest.
#[derive(Clone, Debug)]
pub struct Variable {
    /// The place of the header.
    pub span: Span,
    /// The type of the value.
    pub kind: VariableType,
    /// The value if the variable is not set. A variable without a default is required.
    pub default: Option<Value>,
    /// The description.
    pub description: Option<String>,
    /// Whether the value is never shown or stored.
    pub sensitive: bool,
    /// The validations of the value. They can refer only to `var.NAME`.
    pub validations: Vec<Condition>,
}

/// The type of a variable: `any`, `string`, `number`, `bool`, `list(T)`, `set(T)`, `map(T)`, `object({ name = T, … })`, `optional(T)` inside an object.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum VariableType {
    /// Any value.
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
    /// A sorted list without duplicates.
    Set(Box<VariableType>),
    /// A map.
    Map(Box<VariableType>),
    /// An object with these attributes.
    Object(BTreeMap<String, ObjectAttribute>),
}

/// An attribute of an object type.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectAttribute {
    /// The type of the value.
    pub kind: VariableType,
    /// The value if the attribute is not set or null. `None` for a required attribute.
    pub default: Option<Value>,
}

/// A condition with its error message.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The expression that must be true.
    pub condition: Expr,
    /// The message if it is false.
    pub error_message: Expr,
}

/// `[nodes.NAME]`: one node, or a node for each element of `for_each`. Its attributes can refer to variables and locals.
#[derive(Clone, Debug)]
pub struct NodeBlock {
    /// The place of the header.
    pub span: Span,
    /// A list of strings, a map, or a list of maps. The attributes can refer to the element as `each`.
    pub for_each: Option<Expr>,
    /// The name of the node of an element. Default: `each.key`.
    pub name: Option<Expr>,
    /// `address, user, port, identity_file, jump, host_key, transport, sudo, roles, vars`
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `[resource.TYPE.NAME]` or `[data.TYPE.NAME]`.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The place of the header.
    pub span: Span,
    /// The address.
    pub address: Arc<ResourceAddress>,
    /// The selected nodes: `{ role = "worker" }`, `{ roles = ["a", "b"] }` (any of them), `"gpu01"`, `["gpu01", "gpu02"]` or `"all"`.
    pub on: Option<Expr>,
    /// A list of strings or a map, with one instance for each member.
    pub for_each: Option<Expr>,
    /// The resources on which it depends.
    pub depends_on: Vec<(Pattern, Span)>,
    /// The resources whose changes cause a restart.
    pub restart_on: Vec<(Pattern, Span)>,
    /// The provider instance: `NAME` or `NAME.ALIAS`. Default: the provider of the type.
    pub provider: Option<(String, Span)>,
    /// The rules for changes, replacement and destruction.
    pub lifecycle: Lifecycle,
    /// The conditions before the resource is planned.
    pub preconditions: Vec<Condition>,
    /// The conditions after the apply and on the observed attributes.
    pub postconditions: Vec<Condition>,
    /// The timeouts of `create`, `read`, `update` and `delete`.
    pub timeouts: BTreeMap<String, Duration>,
    /// The attributes of the resource type.
    pub attributes: Vec<(String, Span, Expr)>,
}

/// `lifecycle = { … }`
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// Whether a plan that would destroy the resource is refused.
    pub prevent_destroy: bool,
    /// The attributes whose differences are ignored: paths such as `content` or `manifest.spec.replicas`, or `["all"]`.
    pub ignore_changes: Vec<(String, Span)>,
    /// Whether a replacement creates the new object before it destroys the old one.
    pub create_before_destroy: bool,
    /// The resources whose changes force a replacement.
    pub replace_triggered_by: Vec<(Pattern, Span)>,
}

/// `[check.NAME]`: tests something after an apply. It warns and changes nothing.
#[derive(Clone, Debug)]
pub struct Check {
    /// The place of the header.
    pub span: Span,
    /// The selected nodes, as in a resource.
    pub on: Option<Expr>,
    /// The elements, as in a resource.
    pub for_each: Option<Expr>,
    /// The resources on which it depends.
    pub depends_on: Vec<(Pattern, Span)>,
    /// The nodes from which the probe is sent. Default: this machine.
    pub from: Option<Expr>,
    /// `http = { … }`, `tcp = { … }`, `dns = { … }` or `ping = { … }`
    pub probe: Option<Probe>,
    /// The assertions. With `http`, `self` is the response: `status`, `body` and `headers`. With `dns`, `self.addresses` are the addresses.
    pub assertions: Vec<Condition>,
}

/// `[outputs.NAME]`
#[derive(Clone, Debug)]
pub struct Output {
    /// The place of the header.
    pub span: Span,
    /// The value.
    pub value: Expr,
    /// The description.
    pub description: Option<String>,
    /// Whether the value is never shown. An output with a sensitive value is always sensitive.
    pub sensitive: bool,
}

/// `[module.NAME]`: a call of a module.
#[derive(Clone, Debug)]
pub struct ModuleCall {
    /// The place of the header.
    pub span: Span,
    /// The folder of the module, relative to the folder of the caller, with its place.
    pub source: (String, Span),
    /// The values of the module's variables: name, place of the name, expression.
    pub inputs: Vec<(String, Span, Expr)>,
    /// A list of strings or a map, with one instance of the module for each member.
    pub for_each: Option<Expr>,
    /// The resources on which all resources of the module depend.
    pub depends_on: Vec<(Pattern, Span)>,
    /// The provider instance of the caller for each provider or provider instance of the module.
    pub providers: BTreeMap<String, (String, Span)>,
    /// The module. Empty if it could not be loaded.
    pub manifest: Arc<Manifest>,
    /// Whether the module could be loaded. Otherwise its definitions are not known, and references to them are not checked.
    pub is_loaded: bool,
}

/// `[[moved]]`: the record of `from` becomes the record of `to`.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The place of the block.
    pub span: Span,
    /// The old address.
    pub from: Pattern,
    /// The new address.
    pub to: Pattern,
}

/// `[[import]]`: the existing object is recorded under this address.
#[derive(Clone, Debug)]
pub struct Import {
    /// The place of the block.
    pub span: Span,
    /// The address of the instances.
    pub to: Pattern,
}

/// `[[removed]]` with `from = "nodes.NAME"`: a node that is no longer in the inventory.
#[derive(Clone, Debug)]
pub struct RemovedNode {
    /// The place of the block.
    pub span: Span,
    /// The node.
    pub node: NodeName,
    /// Whether the objects of the node are destroyed. Otherwise they are only removed from the state.
    pub destroy: bool,
}

/// `[[removed]]`: the record of `from`, which is no longer in the manifest, is removed.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The place of the block.
    pub span: Span,
    /// The old address.
    pub from: Pattern,
    /// Whether the object is destroyed. Otherwise it is only removed from the state.
    pub destroy: bool,
}

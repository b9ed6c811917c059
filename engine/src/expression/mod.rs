//! Expressions: TOML values whose strings are HCL templates, their references and their evaluation.

mod arithmetic;
mod evaluate;
mod functions;
mod parse;
mod place;
mod references;
mod template;
#[cfg(test)]
mod tests;
mod toml_value;
mod traversal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use hcl::edit::expr::Expression;
use hcl::edit::template::Template;
use moorfast_state::Digest;

use crate::model::{Diagnostic, ResourceAddress, Span, Value};

pub(crate) use evaluate::literal_number;
pub(crate) use functions::set;
pub use functions::{Family, Function, MISSING, functions};
pub use place::Place;
pub(crate) use references::ReferenceUse;
pub(crate) use toml_value::{plain_toml, toml_number};
pub(crate) use traversal::ROOTS;

/// A value of the manifest before evaluation.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub node: ExprNode,
}

/// The forms of an [`Expr`].
#[derive(Clone, Debug)]
pub enum ExprNode {
    /// A value without expressions in it.
    Literal(Value),
    /// A string that is one `${…}`: keeps the type of its expression.
    Expression(Box<Parsed<Expression>>),
    /// A string with `${…}` or `%{…}` among other text.
    Template(Box<Parsed<Template>>),
    /// An array.
    List(Vec<Expr>),
    /// A table or inline table, with the span of each key.
    Map(Vec<(String, Span, Expr)>),
}

/// A piece of HCL with the place of its text in the manifest.
#[derive(Clone, Debug)]
pub struct Parsed<T> {
    /// The syntax tree, whose spans count from the start of the decoded string.
    pub syntax: T,
    /// Where the string stands.
    pub place: Place,
}

/// What the head of a traversal names; the rest of the traversal is applied to its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `var.x`
    Variable(String),
    /// `local.x`
    Local(String),
    /// `node`: the node that `on` binds, as a map `name, address, user, port, roles, vars, host_keys`.
    Node,
    /// `nodes`: the whole inventory, a map by name of the same maps.
    Nodes,
    /// `each`: the map `key, value` of `for_each`.
    Each,
    /// `self`: the resource's own attributes, in a postcondition; the response, in a check.
    This,
    /// `plan`: what a policy looks at.
    Plan,
    /// `path`: the map `root, module, cwd`.
    Path,
    /// `terraform`-like facts of the run: the map `moorfast.version`, `moorfast.lineage`.
    Moorfast,
    /// `ssh_file.x`, `ssh_file.x["key"]`, `data.ssh_facts.y`.
    Resource {
        /// Which resource.
        resource: ResourceAddress,
        /// The key, where an index with a literal string follows.
        key: Option<String>,
        /// True where an index that is not a literal follows (`ssh_file.x[node.name]`): it may be any instance.
        any: bool,
    },
}

/// Where references get their values from while an expression is evaluated.
pub trait Scope {
    /// The value that `reference` names. For [`Reference::Resource`] with neither `key` nor `any`: the attributes of the
    /// instance without a key, of the same node's instance where both are bound to nodes, else a map of the instances by key. With `key`: the
    /// attributes of that instance. With `any`: the map of all instances by key.
    ///
    /// # Errors
    /// If there is no such thing; the message is completed with the place by the evaluator.
    fn resolve(&self, reference: &Reference) -> Result<Value, Unresolved>;

    /// The attributes of the only instance of `resource`, for `TYPE.NAME.attribute`; `None` where [`Scope::resolve`] gave those of an instance.
    ///
    /// # Errors
    /// If the resource has no instances or several.
    fn only_instance(&self, _resource: &ResourceAddress, _attribute: &str) -> Result<Option<Value>, Unresolved> {
        Ok(None)
    }

    /// What `file()` and its kin may do.
    fn files(&self) -> &Files;
}

/// A reference that names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// What is wrong: `there is no variable "regoin"`.
    pub summary: String,
    /// What to do: `did you mean "region"?`.
    pub help: Option<String>,
}

impl Unresolved {
    /// There is no `name` of this kind (`variable`, `node`) among `candidates`.
    pub fn unknown<'a>(kind: &str, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        Self { summary: format!("there is no {kind} `{name}`"), help: crate::model::suggest(name, candidates) }
    }
}

/// The files that expressions read, with what they looked like: inputs of a plan.
#[derive(Debug, Default)]
pub struct Files {
    /// Relative paths start here.
    pub root: PathBuf,
    /// The folder of moorfast's own things if the manifest is somebody else's: then only files in `root` are read, and none in that folder.
    pub untrusted: Option<PathBuf>,
    /// The digest of each file that was read, by its path as written.
    pub read: Mutex<BTreeMap<PathBuf, Digest>>,
}

impl Expr {
    /// An expression that is just this value.
    pub fn literal(span: Span, value: Value) -> Self {
        Self { span, node: ExprNode::Literal(value) }
    }

    /// The value, where the expression holds nothing to evaluate.
    pub fn as_literal(&self) -> Option<Value> {
        match &self.node {
            ExprNode::Literal(value) => Some(value.clone()),
            ExprNode::List(items) => items.iter().map(Expr::as_literal).collect::<Option<Vec<_>>>().map(Value::List),
            ExprNode::Map(members) => members
                .iter()
                .map(|(name, _, member)| Some((name.clone(), member.as_literal()?)))
                .collect::<Option<BTreeMap<_, _>>>()
                .map(Value::Map),
            ExprNode::Expression(_) | ExprNode::Template(_) => None,
        }
    }

    /// The value of the expression. What depends on something unknown is unknown, what depends on something sensitive is sensitive.
    ///
    /// # Errors
    /// All that went wrong, each with its place.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, Vec<Diagnostic>> {
        evaluate::expr(self, scope)
    }
}

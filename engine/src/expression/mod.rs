//! Expressions: TOML values whose strings are HCL templates, with their references and their evaluation.

pub mod age_identities;
mod arithmetic;
mod decode;
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
use std::sync::{Arc, Mutex};

use hcl::edit::expr::Expression;
use hcl::edit::template::Template;
use moorfast_state::Digest;

use crate::model::{Diagnostic, ResourceAddress, Span, Value};

pub use decode::{DecodeError, TextFormat};
pub(crate) use evaluate::literal_number;
pub(crate) use functions::set;
pub use functions::{Family, Function, MISSING, functions};
pub use place::Place;
pub(crate) use references::ReferenceUse;
pub(crate) use toml_value::{plain_toml, toml_number};
pub(crate) use traversal::ROOTS;

/// An expression: a value of the manifest before evaluation.
#[derive(Clone, Debug)]
pub struct Expr {
    /// The place in the manifest.
    pub span: Span,
    /// The form of the expression.
    pub node: ExprNode,
}

/// The form of an [`Expr`].
#[derive(Clone, Debug)]
pub enum ExprNode {
    /// A value without expressions.
    Literal(Value),
    /// A string that is exactly one `${…}`. It keeps the type of its expression.
    Expression(Box<Parsed<Expression>>),
    /// A string that contains `${…}` or `%{…}` and other text.
    Template(Box<Parsed<Template>>),
    /// An array.
    List(Vec<Expr>),
    /// A table or inline table, with the span of each key.
    Map(Vec<(String, Span, Expr)>),
}

/// Parsed HCL, with the place of its text in the manifest.
#[derive(Clone, Debug)]
pub struct Parsed<T> {
    /// The syntax tree. Its spans are relative to the decoded string.
    pub syntax: T,
    /// The place of the string in the manifest.
    pub place: Place,
}

/// A reference: the head of a traversal. The other operators of the traversal apply to its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `var.x`
    Variable(String),
    /// `local.x`
    Local(String),
    /// `node`: the node of `on`, as a map of `name`, `address`, `user`, `port`, `roles`, `vars` and `host_keys`.
    Node,
    /// `nodes`: a map of all nodes by name.
    Nodes,
    /// `each`: the map of `key` and `value` of the `for_each` element.
    Each,
    /// `self`: the attributes of the resource in a postcondition, or the response in a check.
    This,
    /// `plan`: the plan, in a policy.
    Plan,
    /// `path`: the map of `root`, `module` and `cwd`.
    Path,
    /// `environment`: the map of `name`, of the chosen environment.
    Environment,
    /// `moorfast`: the map of `version`.
    Moorfast,
    /// `ssh_file.x`, `ssh_file.x["key"]`, `data.ssh_facts.y`.
    Resource {
        /// The resource.
        resource: ResourceAddress,
        /// The key, if a literal string follows as an index.
        key: Option<String>,
        /// Whether an index that is not a literal follows (`ssh_file.x[node.name]`). It can refer to any instance.
        any: bool,
    },
    /// `module.web.address`, `module.web["a"].address`, `module.web`.
    Module {
        /// The name of the call.
        name: String,
        /// The key, if a literal string follows as an index.
        key: Option<String>,
        /// Whether an index that is not a literal follows. It can refer to any instance of the module.
        any: bool,
        /// The output. `None` for all outputs.
        output: Option<String>,
    },
}

/// The values of references during the evaluation of an expression.
pub trait Scope {
    /// Returns the value of `reference`. It is shared, because it can be large and most uses select a part of it.
    ///
    /// For [`Reference::Resource`] with `key`: the attributes of that instance. With `any`: a map of all instances by key. Otherwise the attributes of the
    /// instance without a key or on the same node, or a map of the instances by key if there is none.
    /// For [`Reference::Module`]: the output, or a map of all outputs. With `any`, or of a call with `for_each`: a map of them by key.
    ///
    /// # Errors
    /// Returns an error without a place if the reference does not exist. The evaluator adds the place.
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved>;

    /// Returns the attributes of the only instance of `resource`, for `TYPE.NAME.attribute`. `None` if [`Scope::resolve`] already returned one instance.
    ///
    /// # Errors
    /// Returns an error if the resource has no instances or several.
    fn only_instance(&self, _resource: &ResourceAddress, _attribute: &str) -> Result<Option<Arc<Value>>, Unresolved> {
        Ok(None)
    }

    /// Returns the access to files for functions such as `file`.
    fn files(&self) -> &Files;
}

/// The error for a reference that has no value, before its place is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Unresolved {
    /// The message: ``unknown variable `regoin` ``.
    summary: String,
    /// The remedy: ``did you mean `region`?``.
    help: Option<String>,
    /// The error in the definition of the local, input or output, which has a place of its own.
    definition: Option<Box<Diagnostic>>,
}

impl Unresolved {
    /// Creates the error.
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), help: None, definition: None }
    }

    /// Sets the remedy.
    pub fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// Creates the error for an unknown `name` of this kind (`variable`, `node`), with the most similar candidate as help.
    pub fn unknown<'a>(kind: &str, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(format!("unknown {kind} `{name}`")).help(crate::model::suggest(name, candidates))
    }

    /// Returns the first error in the definition of `name`, which is `local.x`, `var.x` or `module.x.y`.
    pub(crate) fn within(name: &str, errors: Vec<Diagnostic>) -> Self {
        let Some(first) = errors.into_iter().next() else { return Self::new(format!("`{name}` has no value")) };
        let error = Self::new(format!("`{name}`: {}", first.summary)).help(first.help.clone());
        Self { definition: first.at.is_some().then(|| Box::new(first)), ..error }
    }

    /// Returns the error for a reference at `span`. An error in a definition keeps its place, so that it is reported once and not for each use.
    pub fn at(self, span: Span) -> Diagnostic {
        match self.definition {
            Some(definition) => definition.related(span, "used here"),
            None => Diagnostic { help: self.help, ..Diagnostic::error(self.summary).at(span, "") },
        }
    }
}

/// The access to files for expressions. The files that are read are inputs of the plan.
#[derive(Debug, Default)]
pub struct Files {
    /// The folder to which paths are relative.
    pub root: PathBuf,
    /// The data folder of moorfast if the manifest is not trusted. Then only files in `root` and outside that folder can be read.
    pub untrusted: Option<PathBuf>,
    /// The folder to which an untrusted manifest is limited. Default: `root`.
    pub boundary: Option<PathBuf>,
    /// Whether a secret is unknown if the user has no key for it, as in a validation. Otherwise this is an error.
    pub secrets_can_be_unknown: bool,
    /// The digest of each file that was read, by its path in the expression.
    pub read: Mutex<BTreeMap<PathBuf, Digest>>,
}

impl Expr {
    /// Creates an expression of this value.
    pub fn literal(span: Span, value: Value) -> Self {
        Self { span, node: ExprNode::Literal(value) }
    }

    /// Returns the value if the expression contains only literals.
    pub fn as_literal(&self) -> Option<Value> {
        match &self.node {
            ExprNode::Literal(value) => Some(value.clone()),
            ExprNode::List(items) => items.iter().map(Expr::as_literal).collect::<Option<Vec<_>>>().map(Value::List),
            ExprNode::Map(members) => members
                .iter()
                .map(|(name, _, member)| Some((name.clone(), member.as_literal()?)))
                .collect::<Option<_>>()
                .map(Value::Map),
            ExprNode::Expression(_) | ExprNode::Template(_) => None,
        }
    }

    /// Evaluates the expression. A result that depends on an unknown value is unknown, one that depends on a sensitive value is sensitive.
    ///
    /// # Errors
    /// Returns all errors, each with its place.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, Vec<Diagnostic>> {
        evaluate::expr(self, scope)
    }
}

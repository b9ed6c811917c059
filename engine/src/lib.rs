//! The engine of moorfast: manifest, expressions, graph, plan and apply.

mod address;
mod diagnostic;
mod documentation;
mod expression;
mod json_schema;
mod manifest;
mod node;
mod provider;
mod schema;
mod value;

pub use address::{Address, InvalidAddress, Mode, ResourceAddress, is_identifier};
pub use diagnostic::{Diagnostic, Severity, SourceFile, Sources, Span, nearest, suggest};
pub use documentation::{functions_reference, reference};
pub use expression::{
    Expr, ExprNode, Family, Files, Function, Parsed, Place, Reference, Scope as ReferenceScope, Unresolved, functions,
};
pub use json_schema::{Catalogue, json_schema};
pub use manifest::{
    Assignments, Block, Check, Condition, Import, Lifecycle, Manifest, Moved, NodeBlock, Output, Removed, Resource,
    StaticScope, Variable, VariableType, evaluate_for_each, evaluate_inventory, format, http_schema, node_value,
    select_nodes,
};
pub use moorfast_state as state;
pub use node::{Node, NodeName, Transport};
pub use provider::{
    Applied, Class, Connection, Context, DataRequest, Invalid, Observed, Operation, OperationAction, PlanRequest,
    Progress, Proposal, ProposedAction, Provider, ProviderError, ReadRequest, ResourceType, Scope, Target,
};
pub use schema::{Attribute, Faults, Kind, Schema, check, conform, parse_duration};
pub use value::{Attributes, RETAINED_KEY, SENSITIVE_KEY, Secret, UNKNOWN_KEY, Value, seal_attributes};

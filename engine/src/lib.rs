//! The engine of moorfast: manifest, expressions, graph, plan and apply.

mod address;
mod apply;
mod attribute_path;
mod catalog;
mod check;
mod diagnostic;
mod discreet_connection;
mod documentation;
mod early;
mod evaluate;
mod events;
mod expand;
mod expression;
mod failure;
mod graph;
mod import;
mod json_schema;
mod leave;
mod machine;
mod manifest;
mod moves;
mod node;
pub mod plan;
mod planning;
mod policy;
mod provider;
mod redaction;
mod report;
mod rollout;
mod schema;
mod scope;
mod session;
mod terraform;
mod untrusted;
mod value;
mod webhook;
mod workspace;
mod yaml;

pub use address::{Address, InvalidAddress, Mode, ResourceAddress, is_identifier, named};
pub use attribute_path::{AttributePath, PathStep};
pub use check::HTTP;
pub use diagnostic::{Diagnostic, Severity, SourceFile, Sources, Span, nearest, suggest};
pub use documentation::{functions_reference, reference};
pub use events::{Event, Events, Interrupt, RolloutStep};
pub use expression::{
    Expr, ExprNode, Family, Files, Function, Parsed, Place, Reference, Scope as ReferenceScope, Unresolved, functions,
};
pub use failure::Failure;
pub use graph::GraphView;
pub use json_schema::{Catalogue, json_schema};
pub use leave::Leave;
pub use machine::{Identified, Machine, NodeChange, NodeChangeKind, Replacement};
pub use manifest::{
    Assignments, Block, Check, Condition, GateName, Import, Lifecycle, Manifest, MaxUnavailable, Moved, NodeBlock,
    ObjectAttribute, Output, Policy, PolicySeverity, Removed, Resource, Rollout, StaticScope, Variable, VariableType,
    evaluate_for_each, evaluate_inventory, format, node_value, select_nodes,
};
pub use moorfast_state as state;
pub use node::{Node, NodeName, Transport};
pub use planning::Planned;
pub use policy::PolicyResult;
pub use provider::{
    Applied, Class, Connection, Context, DataRequest, Dependency, Invalid, Observed, Operation, OperationAction,
    PlanRequest, Progress, Proposal, ProposedAction, Provider, ProviderError, ReadRequest, ResourceType, Scope, Target,
    loses,
};
pub use redaction::Redaction;
pub use report::{ApplyOptions, FailedGate, Outcome, OutcomeResult, Report};
pub use schema::{Attribute, DURATION_EXAMPLES, Faults, Kind, Schema, check, conform, parse_duration};
pub use untrusted::is_inside;
pub use value::{Attributes, RETAINED_KEY, SENSITIVE_KEY, Secret, UNKNOWN_KEY, Value, seal_attributes};
pub use webhook::Webhook;
pub use workspace::Workspace;
pub use yaml::{YamlDocument, YamlError, yaml_document, yaml_documents};

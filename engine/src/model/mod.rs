//! The data model of the engine: addresses, values, schemas, nodes and diagnostics. It imports no other layer.

pub(crate) mod address;
pub(crate) mod attribute_path;
pub(crate) mod check_result;
pub(crate) mod convert;
pub(crate) mod decoded;
pub(crate) mod diagnostic;
mod drain;
mod error_code;
pub mod error_codes;
mod machine;
mod module_path;
mod node;
pub(crate) mod number;
mod object_documents;
pub(crate) mod schema;
pub(crate) mod sealed;
mod untrusted;
pub(crate) mod value;
pub(crate) mod yaml;

pub use address::{Address, InvalidAddress, Mode, Pattern, ResourceAddress, named};
pub use attribute_path::{AttributePath, PathStep};
pub use check_result::{CheckResult, CheckStatus};
pub use decoded::{Decoded, Recorded};
pub use diagnostic::{Diagnostic, Severity, SourceFile, Sources, Span, nearest, suggest};
pub use drain::DrainOptions;
pub use error_code::{ErrorCode, ErrorPage};
pub use machine::{Identified, Machine, NodeChange, NodeChangeKind, Replacement};
pub use module_path::{ModulePath, ModuleStep, is_identifier};
pub use node::{Node, NodeName, Transport};
pub use object_documents::{ObjectDocument, object_documents, objects_by_key};
pub use schema::{Attribute, ConformErrors, DURATION_EXAMPLES, Kind, Schema, conform, parse_duration};
pub use sealed::{Mark, seal_attributes, unseal};
pub use untrusted::is_inside;
pub use value::{Attributes, Secret, Value};
pub use yaml::{YamlDocument, YamlError, yaml_document, yaml_documents};

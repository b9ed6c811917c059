//! The reference documentation and the JSON Schema for editors, generated from the schemas of the providers.

mod documentation;
mod json_schema;

pub use documentation::{attribute_reference, function_reference, functions_reference, reference};
pub use json_schema::{BlockSchemas, json_schema};

//! Stand-ins until the branch with the real ones is merged.
#![allow(missing_docs)]
use std::sync::Arc;
impl crate::Manifest {
    pub fn format(text: &str) -> Result<String, Vec<crate::Diagnostic>> {
        Ok(text.to_owned())
    }
    pub fn reference(_: &[Arc<dyn crate::Provider>]) -> String {
        String::new()
    }
    pub fn json_schema(_: &[Arc<dyn crate::Provider>]) -> serde_json::Value {
        serde_json::Value::Null
    }
}

//! What reads what others wrote, for the fuzz targets: none may end the program, and what is shown of it must be shown.

use std::path::PathBuf;

use moorfast_engine::expression::{Expr, Files, Reference, Scope as ReferenceScope, Unresolved};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{SourceFile, Sources, Span, Value};
use moorfast_engine::state::{Contents, StateFile};

pub use crate::plan_file::fuzz as plan_file;
use crate::render::{Room, diagnostic, record};

const WIDTH: usize = 40;

/// Takes bytes for what `state push` and `state restore` read. What can be read is shown, and written and read again.
pub fn state_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = StateFile::parse(text) else { return };
    record::snapshot(&file.snapshot, Room { width: WIDTH, full: false });
    record::history(&file.runs, None);
    let Some(key) = file.key else { return };
    let contents = Contents { snapshot: file.snapshot, runs: file.runs, key };
    let again = contents.to_json().ok().and_then(|text| StateFile::parse(&text).ok());
    let same = again.is_some_and(|again| again.snapshot == contents.snapshot && again.runs == contents.runs);
    assert!(same, "what is written is what is read");
}

/// Takes bytes for a manifest. What is wrong with it is shown in its text; what is right is formatted, and once is enough.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files = vec![SourceFile { path: PathBuf::from("main.toml"), text: text.to_owned() }];
    if let Err((sources, found)) = Manifest::from_sources(PathBuf::from("."), Sources { files }, Vec::new()) {
        diagnostic::diagnostics(&sources, &found, WIDTH);
    }
    if let Ok(formatted) = moorfast_engine::manifest::format(text) {
        assert_eq!(
            moorfast_engine::manifest::format(&formatted).as_ref(),
            Ok(&formatted),
            "what is formatted stays so"
        );
    }
}

/// Takes bytes for an expression, and evaluates it where every variable is a list of secrets.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let span = Span { file: 0, start: 0, end: text.len() };
    let found = match Expr::expression(text, span) {
        Ok(expr) => expr.evaluate(&Nowhere(Files { root: PathBuf::from("/nowhere"), ..Files::default() })).err(),
        Err(error) => Some(vec![*error]),
    };
    if let Some(found) = found {
        diagnostic::of_expression(&Sources::default(), text, &found, WIDTH);
    }
}

/// Every reference leads to the same value.
struct Nowhere(Files);

impl ReferenceScope for Nowhere {
    fn resolve(&self, _: &Reference) -> Result<Value, Unresolved> {
        Ok(Value::List(vec![Value::from("a").sensitive(), Value::Unknown, Value::from(7_i64)]))
    }

    fn files(&self) -> &Files {
        &self.0
    }
}

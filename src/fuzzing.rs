//! Entry points of the fuzz targets. Malformed input must never crash the parsers or the rendering of what they read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moorfast_engine::expression::{Expr, Files, Reference, Scope as ReferenceScope, Unresolved};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{SourceFile, Sources, Span, Value};
use moorfast_engine::state::{Contents, StateFile};

use crate::plan_file::{self, SavedPlan};
use crate::render::terminal::Terminal;
use crate::render::text::Text;
use crate::render::{DerivedAttributes, TextOptions, diagnostic, html, json, markdown, plan, record};

const WIDTH: usize = 40;

fn write(text: &Text) {
    Terminal { width: WIDTH, colors: true }.write(text);
}

/// Parses bytes as the file of `state push` and `state restore`. A valid file is rendered, written and parsed again.
pub fn state_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = StateFile::parse(text) else { return };
    write(&record::snapshot(
        &file.snapshot,
        TextOptions { width: WIDTH, full: false, derived: &DerivedAttributes::default() },
    ));
    write(&record::history(&file.runs, None));
    let Some(key) = file.key else { return };
    let contents = Contents { snapshot: file.snapshot, runs: file.runs, key };
    let again = contents.to_json().ok().and_then(|text| StateFile::parse(&text).ok());
    let same = again.is_some_and(|again| again.snapshot == contents.snapshot && again.runs == contents.runs);
    assert!(same, "a written state file parses to the same state");
}

/// Parses bytes as a plan file, and as a plan in an envelope with a valid digest. A valid plan is rendered in every format.
pub fn plan_file(bytes: &[u8]) {
    let path = Path::new("a.plan");
    let derived = DerivedAttributes::default();
    let mut found = vec![plan_file::parse(path, bytes)];
    if let Ok(plan) = serde_json::from_slice(bytes) {
        found.push(plan_file::parse(path, plan_file::enclosed(plan).as_bytes()));
    }
    for SavedPlan { plan, .. } in found.into_iter().flatten() {
        write(&plan::plan(&plan, TextOptions { width: WIDTH, full: false, derived: &derived }));
        json::plan(&plan);
        markdown::plan(&plan, markdown::FEWEST, &derived);
        html::plan(&plan, &derived);
        let written = serde_json::to_value(&plan).ok().map(plan_file::enclosed);
        let again = written.and_then(|text| plan_file::parse(path, text.as_bytes()).ok());
        assert!(again.is_some_and(|again| again.plan == plan), "a written plan parses to the same plan");
    }
}

/// Parses bytes as a manifest. Errors are rendered; formatting a valid manifest twice gives the same text as once.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files = vec![SourceFile { path: PathBuf::from("main.toml"), text: text.to_owned() }];
    if let Err((sources, found)) =
        Manifest::from_sources(PathBuf::from("."), Sources { files, ..Sources::default() }, Vec::new())
    {
        write(&diagnostic::diagnostics(&sources, &found));
    }
    if let Ok(formatted) = moorfast_engine::manifest::format(text) {
        assert_eq!(moorfast_engine::manifest::format(&formatted).as_ref(), Ok(&formatted), "formatting is idempotent");
    }
}

/// Parses bytes as an expression, and evaluates it in a scope in which every reference is a list with a secret.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let span = Span { file: 0, start: 0, end: text.len() };
    let found = match Expr::expression(text, span) {
        Ok(expr) => expr.evaluate(&ConstantScope(Files { root: PathBuf::from("/nowhere"), ..Files::default() })).err(),
        Err(error) => Some(vec![*error]),
    };
    if let Some(found) = found {
        write(&diagnostic::of_expression(&Sources::default(), text, &found));
    }
}

/// A scope that resolves every reference to the same value.
struct ConstantScope(Files);

impl ReferenceScope for ConstantScope {
    fn resolve(&self, _: &Reference) -> Result<Arc<Value>, Unresolved> {
        Ok(Arc::new(Value::List(vec![Value::from("a").sensitive(), Value::Unknown, Value::from(7_i64)])))
    }

    fn files(&self) -> &Files {
        &self.0
    }
}

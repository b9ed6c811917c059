//! Locals, and the scope of expressions that do not depend on resources.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::Manifest;
use super::environment::environment_value;
use crate::expression::{Files, Reference, Scope as ReferenceScope, Unresolved};
use crate::model::{ResourceAddress, Value};

impl Manifest {
    /// Evaluates `local.NAME`, whose references `scope` resolves. The locals of a loaded manifest have no cycles. The value is not cached.
    ///
    /// # Errors
    /// Returns an error if the local does not exist or cannot be evaluated.
    pub fn local(&self, name: &str, scope: &dyn ReferenceScope) -> Result<Value, Unresolved> {
        let names = self.locals.keys().map(String::as_str);
        let expr = self.locals.get(name).ok_or_else(|| Unresolved::unknown("local", name, names))?;
        expr.evaluate(scope).map_err(|errors| Unresolved::within(&format!("local.{name}"), errors))
    }
}

/// What nodes can use.
const STATIC_DATA: &str = "nodes can use variables, locals, files, and data sources of this machine and outputs of modules that depend on nothing else";

/// The scope of expressions that do not depend on nodes or resources: variables, locals, files and static data.
pub struct StaticScope<'m> {
    manifest: &'m Manifest,
    variables: BTreeMap<String, Arc<Value>>,
    files: &'m Files,
    locals: Mutex<BTreeMap<String, Arc<Value>>>,
    data: Option<Data<'m>>,
}

/// The values of the data sources that are read before the inventory is evaluated.
#[derive(Clone, Copy)]
struct Data<'m> {
    scope: &'m dyn ReferenceScope,
    is_static: &'m dyn Fn(&Reference) -> bool,
}

impl<'m> StaticScope<'m> {
    /// Creates the scope of a manifest with these values of its variables.
    pub fn new(manifest: &'m Manifest, variables: &'m BTreeMap<String, Value>, files: &'m Files) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.clone(), Arc::new(value.clone()))).collect();
        Self { manifest, variables, files, locals: Mutex::default(), data: None }
    }

    /// Adds the data sources and the outputs of modules for which `is_static` is true. `scope` has their values.
    pub fn with_data(mut self, scope: &'m dyn ReferenceScope, is_static: &'m dyn Fn(&Reference) -> bool) -> Self {
        self.data = Some(Data { scope, is_static });
        self
    }
}

impl ReferenceScope for StaticScope<'_> {
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        let unavailable = |name: String| {
            Unresolved::new(format!("{name} is not available here"))
                .help("only variables, files, and locals without resources are available".to_owned())
        };
        let static_data = |name: String| match self.data {
            Some(Data { scope, is_static }) if is_static(reference) => scope.resolve(reference),
            _ => Err(unavailable(format!("`{name}`")).help(STATIC_DATA.to_owned())),
        };
        match reference {
            Reference::Variable(name) => {
                let names = self.variables.keys().map(String::as_str);
                let value = self.variables.get(name).cloned();
                value.ok_or_else(|| Unresolved::unknown("variable", name, names))
            }
            Reference::Local(name) => {
                let known = |scope: &Self| scope.locals.lock().ok().and_then(|locals| locals.get(name).cloned());
                if let Some(value) = known(self) {
                    return Ok(value);
                }
                let value = Arc::new(self.manifest.local(name, self)?);
                if let Ok(mut locals) = self.locals.lock() {
                    locals.insert(name.clone(), value.clone());
                }
                Ok(value)
            }
            Reference::Path => Ok(Arc::new(path_value(&self.manifest.root, &self.manifest.root))),
            Reference::Environment => Ok(Arc::new(environment_value(self.manifest))),
            Reference::Node => Err(unavailable("`node`".to_owned())),
            Reference::Nodes => Err(unavailable("`nodes`".to_owned())),
            Reference::Each => Err(unavailable("`each`".to_owned())),
            Reference::This => Err(unavailable("`self`".to_owned())),
            Reference::Plan => Err(unavailable("`plan`".to_owned())),
            Reference::Moorfast => Err(unavailable("`moorfast`".to_owned())),
            Reference::Resource { resource, .. } => static_data(resource.to_string()),
            Reference::Module { name, output: None, .. } => static_data(format!("module.{name}")),
            Reference::Module { name, output: Some(output), .. } => static_data(format!("module.{name}.{output}")),
        }
    }

    fn only_instance(&self, resource: &ResourceAddress, attribute: &str) -> Result<Option<Arc<Value>>, Unresolved> {
        self.data.map_or(Ok(None), |data| data.scope.only_instance(resource, attribute))
    }

    fn files(&self) -> &Files {
        self.files
    }
}

/// Returns the value of `path` for expressions in the folder `module`.
pub(crate) fn path_value(root: &Path, module: &Path) -> Value {
    let text = |path: &Path| Value::from(path.to_string_lossy().into_owned());
    let cwd = std::env::current_dir().unwrap_or_default();
    // Absolute paths, because values may be used on nodes, where relative paths have another base.
    let [root, module] = [root, module].map(|path| path.canonicalize().unwrap_or_else(|_| cwd.join(path)));
    let members = [("root", text(&root)), ("module", text(&module)), ("cwd", text(&cwd))];
    Value::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

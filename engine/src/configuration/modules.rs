//! Expansion of module calls into module instances, with the values of their inputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::configuration::expand::{Binding, Call, Expanded, Module};
use crate::configuration::graph::is_static;
use crate::configuration::scope::{InstanceScope, Values, input};
use crate::manifest::locals::path_value;
use crate::manifest::{Manifest, ModuleCall, for_each_members, has_unknown_keys, unknown_for_each};
use crate::model::{Diagnostic, ModulePath, Value};

/// The module instances of a call with their keys, or why the call is not expanded.
type Called = Result<Vec<(Option<String>, Module)>, Diagnostic>;

impl Module {
    /// Creates the root with the values of its variables.
    pub fn root(manifest: Arc<Manifest>, variables: BTreeMap<String, Value>) -> Self {
        let root = manifest.root.clone();
        Self { variables, ..Self::new(ModulePath::root(), manifest, None, &root) }
    }

    fn new(path: ModulePath, manifest: Arc<Manifest>, call: Option<Call>, root: &Path) -> Self {
        let (variables, called) = (BTreeMap::new(), BTreeMap::new());
        let (files, folders) = (manifest.files(), path_value(root, &manifest.root));
        Self { path, manifest, files, folders, call, variables, called }
    }
}

impl Expanded {
    /// Expands the calls of all modules, and evaluates the inputs that need no resources.
    ///
    /// # Errors
    /// Returns all errors in `for_each` and in the inputs.
    pub(super) fn expand_modules(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut next = 0;
        while next < self.modules.len() {
            let manifest = self.modules[next].manifest.clone();
            for (name, call) in &manifest.modules {
                match self.instances_of_call(next, name, call) {
                    Ok(Ok(instances)) => self.add_modules(next, name, instances),
                    Ok(Err(reason)) => self.open.push(reason),
                    Err(found) => errors.extend(found),
                }
            }
            next += 1;
        }
        // The inputs can use the outputs of modules that are called later.
        for module in 1..self.modules.len() {
            match self.inputs(module) {
                Ok(variables) => self.modules[module].variables = variables,
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn add_modules(&mut self, caller: usize, name: &str, instances: Vec<(Option<String>, Module)>) {
        let mut indexes = BTreeMap::new();
        for (key, module) in instances {
            indexes.insert(key, self.modules.len());
            self.modules.push(module);
        }
        self.modules[caller].called.insert(name.to_owned(), indexes);
    }

    /// Returns the module instances of a call, one for each element of its `for_each`, or why the call is not expanded.
    fn instances_of_call(&self, caller: usize, name: &str, block: &ModuleCall) -> Result<Called, Vec<Diagnostic>> {
        let instance = |each: Option<(String, Value)>, collection| {
            let key = each.as_ref().map(|(key, _)| key.clone());
            let call = Call { caller, name: name.to_owned(), each, collection };
            let path = self.modules[caller].path.child(name, key.clone());
            (key, Module::new(path, block.manifest.clone(), Some(call), &self.manifest.root))
        };
        let Some(for_each) = &block.for_each else { return Ok(Ok(vec![instance(None, None)])) };
        let scope = InstanceScope::new(self, Values::none(), Binding::of_module(caller));
        let value = for_each.evaluate(&scope)?;
        if has_unknown_keys(&value) && is_static(self, caller, for_each) {
            return Ok(Err(unknown_for_each(for_each)));
        }
        let elements = for_each_members(for_each, value)?.into_iter();
        let collection = |value: &Value| value.is_unknown().then(|| Arc::new(for_each.clone()));
        let elements = elements.map(|each| (collection(&each.1), each));
        Ok(Ok(elements.map(|(known, each)| instance(Some(each), known)).collect()))
    }

    /// Returns the values of the variables of a module that are known without resources, after checking all of them.
    fn inputs(&self, module: usize) -> Result<BTreeMap<String, Value>, Vec<Diagnostic>> {
        let (mut known, mut errors) = (BTreeMap::new(), Vec::new());
        let binding = Binding::of_module(module);
        for name in self.modules[module].manifest.variables.keys() {
            match input(self, Values::none(), &binding, name) {
                Ok(value) if !value.is_unknown() => _ = known.insert(name.clone(), value),
                Ok(_) => {}
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(known) } else { Err(errors) }
    }
}

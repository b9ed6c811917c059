//! Expansion of module calls into module instances, with the values of their inputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::configuration::expand::{Binding, Call, Expanded, Module, Stage};
use crate::configuration::needs::Needs;
use crate::configuration::scope::{InstanceScope, Values, input};
use crate::manifest::locals::path_value;
use crate::manifest::{Manifest, ModuleCall, for_each_members, has_unknown_keys};
use crate::model::{Diagnostic, ModulePath, Value};

/// The module instances of a call with their keys, or why the call is not expanded.
type Called = Result<Vec<(Option<String>, Module)>, Diagnostic>;

impl Module {
    /// Creates the root with the values of its variables.
    pub fn root(manifest: Arc<Manifest>, variables: BTreeMap<String, Value>) -> Self {
        let root = manifest.root.clone();
        let variables = variables.into_iter().map(|(name, value)| (name, Arc::new(value))).collect();
        Self { variables, ..Self::new(ModulePath::root(), manifest, None, &root) }
    }

    fn new(path: ModulePath, manifest: Arc<Manifest>, call: Option<Call>, root: &Path) -> Self {
        let (variables, called) = (BTreeMap::new(), BTreeMap::new());
        let (files, folders) = (manifest.files(), path_value(root, &manifest.root));
        Self { path, manifest, files, folders, call, variables, shared_locals: BTreeMap::new(), called }
    }
}

impl Expanded {
    /// Expands the calls of all modules, and evaluates the inputs that need no resources.
    ///
    /// # Errors
    /// Returns all errors in `for_each` and in the inputs.
    pub(super) fn expand_modules(&mut self) -> Result<(), Vec<Diagnostic>> {
        let open = self.expand_calls()?;
        self.open.extend(open);
        let mut errors = Vec::new();
        // The inputs can use the outputs of modules that are called later.
        for module in 1..self.modules.len() {
            match self.inputs(module) {
                Ok(variables) => self.modules[module].variables = variables,
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Expands the calls whose `for_each` is known, and returns why the others are not expanded. Before the inventory is known, only calls that do
    /// not depend on it are expanded.
    ///
    /// # Errors
    /// Returns all errors in `for_each`.
    pub(super) fn expand_calls(&mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        // `for_each` can use the outputs of another call, which may be expanded later.
        loop {
            let (mut open, mut errors, mut found_more) = (Vec::new(), Vec::new(), false);
            let mut next = 0;
            while next < self.modules.len() {
                let manifest = self.modules[next].manifest.clone();
                for (name, call) in &manifest.modules {
                    if !self.is_due(next, name) {
                        continue;
                    }
                    match self.instances_of_call(next, name, call) {
                        Ok(Ok(instances)) => {
                            self.add_modules(next, name, instances);
                            found_more = true;
                        }
                        Ok(Err(reason)) => open.push(reason),
                        Err(found) => errors.extend(found),
                    }
                }
                next += 1;
            }
            match found_more {
                true => {}
                false if errors.is_empty() => return Ok(open),
                false => return Err(errors),
            }
        }
    }

    /// Whether a call is not expanded yet, and may be.
    fn is_due(&self, caller: usize, name: &str) -> bool {
        let Module { path, called, .. } = &self.modules[caller];
        let is_static = || self.static_sources.contains_call(&path.child(name, None));
        !called.contains_key(name) && (self.stage != Stage::StaticData || is_static())
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
        if has_unknown_keys(&value) {
            return Needs::unknown_keys(self, caller, for_each).map(Err);
        }
        let elements = for_each_members(for_each, value)?.into_iter();
        let collection = |value: &Value| value.is_unknown().then(|| Arc::new(for_each.clone()));
        let elements = elements.map(|each| (collection(&each.1), each));
        Ok(Ok(elements.map(|(known, each)| instance(Some(each), known)).collect()))
    }

    /// Returns the values of the variables of a module that are known without resources, after checking all of them.
    fn inputs(&self, module: usize) -> Result<BTreeMap<String, Arc<Value>>, Vec<Diagnostic>> {
        let (mut known, mut errors) = (BTreeMap::new(), Vec::new());
        let binding = Binding::of_module(module);
        for name in self.modules[module].manifest.variables.keys() {
            match input(self, Values::none(), &binding, name) {
                Ok(value) if !value.is_unknown() => _ = known.insert(name.clone(), Arc::new(value)),
                Ok(_) => {}
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(known) } else { Err(errors) }
    }
}

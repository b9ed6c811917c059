//! The scope of an instance: the values of the references in its expressions.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::configuration::expand::{Binding, Expanded, Module, Stage};
pub(crate) use crate::configuration::values::Values;
use crate::expression::{Expr, Files, Reference, Scope, Unresolved};
use crate::manifest::environment::environment_value;
use crate::manifest::{each_value, node_value};
use crate::model::hash::HashMap;
use crate::model::{Address, Diagnostic, ResourceAddress, Value, ValueMap};

/// The scope of the expressions of one instance.
pub(crate) struct InstanceScope<'a> {
    expanded: &'a Expanded,
    values: &'a Values,
    binding: Binding,
    this: Option<Arc<Value>>,
    /// The values of the references that were resolved.
    resolved: Mutex<HashMap<Reference, Arc<Value>>>,
}

impl<'a> InstanceScope<'a> {
    pub fn new(expanded: &'a Expanded, values: &'a Values, binding: Binding) -> Self {
        Self { expanded, values, binding, this: None, resolved: Mutex::default() }
    }

    /// Sets the value of `self`.
    pub fn with_self(mut self, this: Value) -> Self {
        self.this = Some(Arc::new(this));
        self
    }

    /// Returns the module of the expression.
    fn module(&self) -> &'a Module {
        &self.expanded.modules[self.binding.module]
    }

    fn resource(&self, resource: &ResourceAddress, key: Option<&str>, any: bool) -> Result<Value, Unresolved> {
        let absolute = self.expanded.absolute(self.binding.module, resource);
        let Some(instances) = self.expanded.by_resource.get(&*absolute) else {
            return match self.module().manifest.resources.contains_key(resource) {
                true if !self.expanded.is_expanded(&absolute) => Ok(Value::Unknown),
                // `on` selects no node, or `for_each` is empty.
                true => Ok(Value::Map(ValueMap::new())),
                false => Err(self.no_resource(resource)),
            };
        };
        let resource = &*absolute;
        let address = |i: &usize| &self.expanded.instances[*i].address;
        if let Some(key) = key {
            return match instance_by_key(self.expanded, resource, key, &self.binding) {
                Some(address) => Ok(self.value_of(&address)),
                None => Err(missing_key(
                    &resource.to_string(),
                    key,
                    instances.iter().filter_map(|i| address(i).key.as_ref()),
                )),
            };
        }
        if any {
            return Ok(Value::Map(self.by_any_key(resource, instances)));
        }
        match referenced(self.expanded, resource, &self.binding) {
            Referenced::One(address) => Ok(self.value_of(&address)),
            Referenced::Many(places) => {
                let by_key = |i: &usize| Some((address(i).key.clone()?, self.value_of(address(i))));
                Ok(Value::Map(places.iter().filter_map(by_key).collect()))
            }
        }
    }

    /// Returns the instances by every key that an index accepts, see [`instance_by_key`].
    fn by_any_key(&self, resource: &ResourceAddress, instances: &[usize]) -> ValueMap {
        let instance = |i: &usize| &self.expanded.instances[*i];
        let on_node = on_same_node(self.expanded, resource, &self.binding).unwrap_or_default().iter().map(instance);
        let of_node = on_node.filter_map(|i| Some((i.binding.each.as_ref()?.0.clone(), self.value_of(&i.address))));
        let of_all = instances.iter().map(instance);
        let of_all = of_all.filter_map(|i| Some((i.address.key.clone()?, self.value_of(&i.address))));
        of_node.chain(of_all).collect()
    }

    /// Returns the attributes of an instance. Each attribute of its type is present: unknown if the instance is not evaluated yet, null if it is not set.
    fn value_of(&self, address: &Address) -> Value {
        let known = self.values.get(address).or_else(|| self.expanded.static_data.values().get(address)).cloned();
        let Some(instance) = self.expanded.instance(address) else { return known.map_or(Value::Unknown, Value::Map) };
        let absent = if known.is_some() { Value::Null } else { Value::Unknown };
        let mut attributes = known.unwrap_or_default();
        for attribute in &instance.resource_type.schema().attributes {
            if !attributes.contains_key(attribute.name) {
                attributes.insert(attribute.name.to_owned(), attribute.mark(absent.clone()));
            }
        }
        Value::Map(attributes)
    }

    fn no_resource(&self, resource: &ResourceAddress) -> Unresolved {
        let known: Vec<_> = self.module().manifest.resources.keys().map(ToString::to_string).collect();
        Unresolved::unknown("resource", &resource.to_string(), known.iter().map(String::as_str))
    }

    fn nodes(&self) -> Arc<Value> {
        let Expanded { stage, inventory, nodes, nodes_value, .. } = self.expanded;
        if *stage == Stage::StaticData || !inventory.is_complete() {
            return Arc::new(Value::Unknown);
        }
        let by_name = || nodes.iter().map(|(name, node)| (name.0.clone(), node_value(node))).collect();
        nodes_value.get_or_init(|| Arc::new(Value::Map(by_name()))).clone()
    }

    fn local(&self, name: &str) -> Result<Arc<Value>, Unresolved> {
        let shared = self.module().shared_locals.get(name);
        if let Some(value) = shared.and_then(OnceLock::get) {
            return Ok(value.clone());
        }
        let value = Arc::new(self.module().manifest.local(name, self)?);
        Ok(shared.map_or(value.clone(), |shared| shared.get_or_init(|| value).clone()))
    }

    fn node(&self) -> Result<Value, Unresolved> {
        match &self.binding.node {
            Some(node) => Ok(node_value(node)),
            None if self.binding.is_open => Ok(Value::Unknown),
            None => Err(Unresolved::new("`node` is the node of `on`, and this block has no `on`")
                .help("add on = { role = \"…\" }, or name the node: nodes.NAME.address".to_owned())),
        }
    }

    fn each(&self) -> Result<Value, Unresolved> {
        match &self.binding.each {
            Some((key, value)) => {
                let value = match &self.binding.collection {
                    Some(collection) => self.element(collection, key)?.unwrap_or_else(|| value.clone()),
                    None => value.clone(),
                };
                Ok(each_value(Value::from(key.as_str()), value))
            }
            None if self.binding.is_open => Ok(each_value(Value::Unknown, Value::Unknown)),
            None => Err(Unresolved::new("`each` is the element of `for_each`, and this block has no `for_each`")),
        }
    }

    /// Evaluates an element of `for_each` again, because its value may be known by now.
    fn element(&self, collection: &Expr, key: &str) -> Result<Option<Value>, Unresolved> {
        let binding = Binding { each: None, collection: None, ..self.binding.clone() };
        let elements = collection.evaluate(&InstanceScope::new(self.expanded, self.values, binding));
        let elements = elements.map_err(|errors| Unresolved::within("each", errors))?;
        let element = elements.as_map().and_then(|map| map.get(key)).cloned();
        Ok(if matches!(elements, Value::Sensitive(_)) { element.map(Value::sensitive) } else { element })
    }

    fn variable(&self, name: &str) -> Result<Arc<Value>, Unresolved> {
        if let Some(value) = self.module().variables.get(name) {
            return Ok(value.clone());
        }
        if self.module().call.is_none() || !self.module().manifest.variables.contains_key(name) {
            let names = self.module().manifest.variables.keys().map(String::as_str);
            return Err(Unresolved::unknown("variable", name, names));
        }
        input(self.expanded, self.values, &self.binding, name)
            .map(Arc::new)
            .map_err(|errors| Unresolved::within(&format!("var.{name}"), errors))
    }

    fn outputs_of(
        &self,
        name: &str,
        key: Option<&String>,
        any: bool,
        output: Option<&str>,
    ) -> Result<Value, Unresolved> {
        let Some(instances) = self.module().called.get(name) else {
            let calls = &self.module().manifest.modules;
            return match calls.contains_key(name) {
                // Its `for_each` is not evaluated yet.
                true => Ok(Value::Unknown),
                false => Err(Unresolved::unknown("module", name, calls.keys().map(String::as_str))),
            };
        };
        let value = |module: &usize| match output {
            Some(output) if !any => self.output(name, *module, output),
            Some(output) => Ok(Value::Map([(output.to_owned(), self.output(name, *module, output)?)].into())),
            None => {
                let outputs = self.expanded.modules[*module].manifest.outputs.keys();
                let values = outputs.map(|output| Ok((output.clone(), self.output(name, *module, output)?)));
                Ok(Value::Map(values.collect::<Result<_, Unresolved>>()?))
            }
        };
        if let Some(module) = instances.get(&key.cloned()).filter(|_| !any) {
            return value(module);
        }
        match key {
            Some(key) => Err(missing_key(&format!("module.{name}"), key, instances.keys().flatten())),
            None => {
                let by_key = |(key, module): (&Option<String>, &usize)| Some((key.clone()?, value(module)));
                let values = instances.iter().filter_map(by_key).map(|(key, value)| Ok((key, value?)));
                Ok(Value::Map(values.collect::<Result<_, Unresolved>>()?))
            }
        }
    }

    /// Returns the value of an output of the module instance `module`.
    fn output(&self, name: &str, module: usize, output: &str) -> Result<Value, Unresolved> {
        let outputs = &self.expanded.modules[module].manifest.outputs;
        let block = outputs
            .get(output)
            .ok_or_else(|| Unresolved::unknown("output", output, outputs.keys().map(String::as_str)))?;
        let scope = InstanceScope::new(self.expanded, self.values, self.binding.in_module(module));
        let value = block.value.evaluate(&scope);
        let value = value.map_err(|errors| Unresolved::within(&format!("module.{name}.{output}"), errors))?;
        Ok(if block.sensitive { value.sensitive() } else { value })
    }
}

impl InstanceScope<'_> {
    fn value(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        match reference {
            Reference::Variable(name) => return self.variable(name),
            Reference::Local(name) => return self.local(name),
            Reference::Nodes => return Ok(self.nodes()),
            Reference::This => {
                return self.this.clone().ok_or_else(|| {
                    Unresolved::new("`self` is available only in a postcondition or in an assertion of a check")
                });
            }
            Reference::Node => self.node(),
            Reference::Each => self.each(),
            Reference::Plan => Err(Unresolved::new("`plan` is available only in a policy")),
            Reference::Path => Ok(self.module().folders.clone()),
            Reference::Environment => Ok(environment_value(&self.expanded.manifest)),
            Reference::Moorfast => {
                Ok(Value::Map([("version".to_owned(), Value::from(env!("CARGO_PKG_VERSION")))].into()))
            }
            Reference::Resource { resource, key, any } => self.resource(resource, key.as_deref(), *any),
            Reference::Module { name, key, any, output } => {
                self.outputs_of(name, key.as_ref(), *any, output.as_deref())
            }
        }
        .map(Arc::new)
    }

    fn resolved(&self) -> MutexGuard<'_, HashMap<Reference, Arc<Value>>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope for InstanceScope<'_> {
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        if let Some(value) = self.resolved().get(reference) {
            return Ok(value.clone());
        }
        let value = self.value(reference)?;
        self.resolved().insert(reference.clone(), value.clone());
        Ok(value)
    }

    fn only_instance(&self, resource: &ResourceAddress, attribute: &str) -> Result<Option<Arc<Value>>, Unresolved> {
        let resource = &*self.expanded.absolute(self.binding.module, resource);
        match referenced(self.expanded, resource, &self.binding) {
            Referenced::One(_) => Ok(None),
            Referenced::Many([]) if !self.expanded.is_expanded(resource) => Ok(Some(Arc::new(Value::Unknown))),
            Referenced::Many([only]) => Ok(Some(Arc::new(self.value_of(&self.expanded.instances[*only].address)))),
            Referenced::Many([]) => Err(Unresolved::new(format!("`{resource}` has no instances"))),
            Referenced::Many(instances @ [first, ..]) => {
                let first = &self.expanded.instances[*first].address;
                Err(Unresolved::new(format!(
                    "`{resource}` has {} instances, and the reference names none of them",
                    instances.len()
                ))
                .help(format!(
                    "write `{first}.{attribute}` for one instance, or `values({resource})[*].{attribute}` for all"
                )))
            }
        }
    }

    fn files(&self) -> &Files {
        &self.module().files
    }
}

/// Returns the value of the variable `name` of a module, which its call sets, for an instance with this binding.
///
/// # Errors
/// Returns an error if the input cannot be evaluated, has a wrong type, or does not satisfy a validation.
pub(crate) fn input(
    expanded: &Expanded,
    values: &Values,
    binding: &Binding,
    name: &str,
) -> Result<Value, Vec<Diagnostic>> {
    let module = &expanded.modules[binding.module];
    let (Some(variable), Some(call)) = (module.manifest.variables.get(name), &module.call) else {
        return Ok(Value::Unknown);
    };
    let written = call.block(expanded).and_then(|call| call.inputs.iter().find(|(input, ..)| input == name));
    let (value, span) = match written {
        Some((_, _, expr)) => {
            let value = expr.evaluate(&InstanceScope::new(expanded, values, binding.in_call(call)))?;
            let converted = variable.convert(value).map_err(|label| {
                let error = Diagnostic::error(format!("the input `{name}` of {} has a wrong type", module.path));
                vec![error.at(expr.span, label).related(variable.span, "the variable")]
            })?;
            (converted, Some(expr.span))
        }
        None => (variable.default.clone().unwrap_or_default(), None),
    };
    let mut violations = variable.violations(name, &value, module.manifest.files());
    if violations.is_empty() {
        return Ok(value);
    }
    if let Some(span) = span {
        violations = violations.into_iter().map(|error| error.related(span, "the value")).collect();
    }
    Err(violations)
}

/// The instances to which a reference without a key refers.
pub(crate) enum Referenced<'e> {
    /// One instance.
    One(Address),
    /// A map of instances by key. The numbers are indexes of [`Expanded::instances`].
    Many(&'e [usize]),
}

/// Returns the instances to which a reference without a key refers in a block with this binding. One instance is the first that exists of: the instance
/// without a key, of the same node and element, of the same node, of the same element. Otherwise it is all instances, or those on the same node.
pub(crate) fn referenced<'e>(expanded: &'e Expanded, resource: &ResourceAddress, binding: &Binding) -> Referenced<'e> {
    let Some((resource, instances)) = expanded.by_resource.get_key_value(resource) else {
        return Referenced::Many(&[]);
    };
    let on_node = on_same_node(expanded, resource, binding);
    let node = binding.node.as_ref().map(|n| n.name.0.clone());
    let each = binding.each.as_ref().map(|(key, _)| key.clone());
    let both = node.as_ref().zip(each.as_ref()).map(|(node, each)| format!("{node}/{each}"));
    let is_reachable = |address: &Address| {
        let place = expanded.index.get(address);
        place.is_some_and(|place| on_node.is_none_or(|on_node| on_node.contains(place)))
    };
    let keys = [Some(None), both.map(Some), node.map(Some), each.map(Some)].into_iter().flatten();
    match keys.map(|key| resource.instance(key)).find(is_reachable) {
        Some(address) => Referenced::One(address),
        None => Referenced::Many(on_node.unwrap_or(instances)),
    }
}

/// Returns the instance for an index with `key`: the instance with this key, or the instance of this element on the same node.
pub(crate) fn instance_by_key(
    expanded: &Expanded,
    resource: &ResourceAddress,
    key: &str,
    binding: &Binding,
) -> Option<Address> {
    let (resource, _) = expanded.by_resource.get_key_value(resource)?;
    let address = resource.instance(Some(key.to_owned()));
    if expanded.index.contains_key(&address) {
        return Some(address);
    }
    let mut on_node = on_same_node(expanded, resource, binding)?.iter().map(|i| &expanded.instances[*i]);
    let has_key = |each: &(String, Value)| each.0 == key;
    Some(on_node.find(|i| i.binding.each.as_ref().is_some_and(has_key))?.address.clone())
}

/// Returns the instances of `resource` on the node of `binding`. `None` if one of the two has no `on`, or if they have no node in common: then a
/// reference refers to the instances on all nodes.
fn on_same_node<'e>(expanded: &'e Expanded, resource: &ResourceAddress, binding: &Binding) -> Option<&'e [usize]> {
    let node = binding.node.as_ref()?;
    let by_node = expanded.by_node.get(resource)?;
    match by_node.get(&node.name) {
        Some(on_node) => Some(on_node),
        None => binding.nodes.iter().any(|node| by_node.contains_key(node)).then_some(&[]),
    }
}

fn missing_key<'k>(block: &str, key: &str, known: impl Iterator<Item = &'k String>) -> Unresolved {
    let keys: Vec<_> = known.map(|k| format!("\"{k}\"")).collect();
    Unresolved::new(format!("`{block}` has no instance \"{key}\"")).help(match keys.is_empty() {
        true => "its instance has no key: omit the brackets".to_owned(),
        false => format!("its instances are {}", keys.join(", ")),
    })
}

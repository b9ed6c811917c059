//! Checks whether the references of a manifest refer to existing blocks.

use std::collections::BTreeSet;

use super::{Condition, Drain, GateName, Manifest, ModuleCall, Policy, Rollout};
use crate::expression::{Expr, ROOTS, Reference, Unresolved};
use crate::model::{Address, Diagnostic, ModulePath, Pattern, ResourceAddress, Span, error_codes, nearest, suggest};

/// The references that a block allows besides variables, locals, nodes and resources.
#[derive(Clone, Copy, Default)]
struct Bound {
    node: bool,
    each: bool,
    this: bool,
}

/// Returns the errors for all references to missing blocks in a manifest whose modules are loaded.
pub(super) fn check(manifest: &Manifest, is_module: bool) -> Vec<Diagnostic> {
    let mut check = Check { manifest, is_module, problems: Vec::new() };
    for (name, variable) in &manifest.variables {
        variable.validations.iter().for_each(|validation| check.validation(name, validation));
    }
    let free = Bound::default();
    manifest.locals.values().for_each(|local| check.expr(local, free));
    for node in manifest.nodes.values() {
        let bound = Bound { each: node.for_each.is_some(), ..free };
        node.for_each.iter().for_each(|for_each| check.expr(for_each, free));
        node.name.iter().for_each(|name| check.expr(name, bound));
        node.attributes.iter().for_each(|(_, _, attribute)| check.expr(attribute, bound));
    }
    for provider in manifest.providers.values() {
        check.addresses(&provider.depends_on);
        provider.attributes.iter().for_each(|(_, _, attribute)| check.expr(attribute, free));
    }
    let of_backend = manifest.backend.iter().map(|(_, block)| &block.attributes);
    let of_backend = of_backend.chain(manifest.environments.values().map(|environment| &environment.backend));
    of_backend.flatten().for_each(|(_, _, attribute)| check.expr(attribute, free));
    let of_key_store = manifest.key_store.iter().flat_map(|block| &block.attributes);
    of_key_store.for_each(|(_, _, attribute)| check.expr(attribute, free));
    check.problems.extend(manifest.invalid_environments());
    manifest.outputs.values().for_each(|output| check.expr(&output.value, free));
    manifest.resources.values().for_each(|resource| check.resource(resource));
    manifest.modules.iter().for_each(|(name, call)| check.call(name, call));
    for tested in manifest.checks.values() {
        let bound = Bound { node: tested.on.is_some(), each: tested.for_each.is_some(), this: false };
        tested.on.iter().chain(&tested.for_each).chain(&tested.from).for_each(|expr| check.expr(expr, free));
        check.addresses(&tested.depends_on);
        tested.probe.iter().for_each(|probe| check.expr(&probe.arguments, bound));
        let asserted = Bound { this: tested.probe.as_ref().is_some_and(|probe| probe.kind.has_answer()), ..bound };
        tested.assertions.iter().for_each(|assertion| check.condition(assertion, asserted));
    }
    manifest.policies.values().for_each(|policy| check.policy(policy));
    manifest.rollouts.values().for_each(|rollout| check.rollout(rollout));
    check.moves();
    check.problems
}

/// Returns the errors for all references of a webhook to missing blocks.
pub(crate) fn of_webhook<'e>(manifest: &Manifest, exprs: impl Iterator<Item = &'e Expr>) -> Vec<Diagnostic> {
    let mut check = Check { manifest, is_module: false, problems: Vec::new() };
    exprs.for_each(|expr| check.expr(expr, Bound { this: true, ..Bound::default() }));
    check.problems
}

struct Check<'m> {
    manifest: &'m Manifest,
    /// Whether the manifest is a module. Its nodes and providers are those of its callers.
    is_module: bool,
    problems: Vec<Diagnostic>,
}

impl Check<'_> {
    fn resource(&mut self, resource: &super::Resource) {
        let bound = Bound { node: resource.on.is_some(), each: resource.for_each.is_some(), this: false };
        resource.on.iter().for_each(|on| self.expr(on, Bound::default()));
        // `for_each` is evaluated for each node, so it can use `node`.
        resource.for_each.iter().for_each(|each| self.expr(each, Bound { each: false, ..bound }));
        resource.attributes.iter().for_each(|(_, _, attribute)| self.expr(attribute, bound));
        resource.preconditions.iter().for_each(|condition| self.condition(condition, bound));
        let after = Bound { this: true, ..bound };
        resource.postconditions.iter().for_each(|condition| self.condition(condition, after));
        self.addresses(&resource.depends_on);
        self.addresses(&resource.restart_on);
        resource.provider.iter().for_each(|provider| self.provider(provider));
        self.addresses(&resource.lifecycle.replace_triggered_by);
    }

    /// Checks a call of a module.
    fn call(&mut self, name: &str, call: &ModuleCall) {
        call.for_each.iter().for_each(|each| self.expr(each, Bound::default()));
        let bound = Bound { each: call.for_each.is_some(), ..Bound::default() };
        call.inputs.iter().for_each(|(_, _, expr)| self.expr(expr, bound));
        self.addresses(&call.depends_on);
        call.providers.values().for_each(|provider| self.provider(provider));
        if call.is_loaded {
            self.inputs(name, call);
        }
    }

    /// Checks the inputs of a call against the variables of its module.
    fn inputs(&mut self, name: &str, call: &ModuleCall) {
        let variables = &call.manifest.variables;
        for (input, span, expr) in &call.inputs {
            let Some(variable) = variables.get(input) else {
                let error = Diagnostic::error(format!("module.{name} has no variable `{input}`")).at(*span, "");
                let help = suggest(input, variables.keys().map(String::as_str));
                self.problems.push(Diagnostic { help, ..error });
                continue;
            };
            if let Some(Err(message)) = expr.as_literal().map(|literal| variable.convert(literal)) {
                let error = Diagnostic::error(format!("the input `{input}` of module.{name} has a wrong type"));
                self.problems.push(error.at(expr.span, message).related(variable.span, "the variable"));
            }
        }
        let is_set = |variable: &str| call.inputs.iter().any(|(input, ..)| input == variable);
        for (missing, variable) in variables.iter().filter(|(name, v)| v.default.is_none() && !is_set(name)) {
            let error = Diagnostic::error(format!("module.{name}: missing required input `{missing}`"));
            let help = format!("add it to the call: inputs = {{ {missing} = … }}");
            self.problems.push(error.at(call.span, "").related(variable.span, "the variable").help(help));
        }
    }

    /// Checks a reference to outputs of a module.
    fn outputs(&self, name: &str, has_key: bool, output: Option<&str>) -> Result<(), Unresolved> {
        let modules = &self.manifest.modules;
        let call =
            modules.get(name).ok_or_else(|| Unresolved::unknown("module", name, modules.keys().map(String::as_str)))?;
        let error = |summary, help: String| Err(Unresolved::new(summary).help(help));
        match (&call.for_each, output) {
            (None, _) if has_key => {
                error(format!("`module.{name}` has no `for_each`, so it has no keys"), "omit the brackets".to_owned())
            }
            (Some(_), Some(output)) if !has_key => {
                let summary = format!("`module.{name}` has one instance for each member of its `for_each`");
                let help = format!(
                    "write `module.{name}[\"KEY\"].{output}` for one instance, or `values(module.{name})[*].{output}` for all"
                );
                error(summary, help)
            }
            (_, Some(output)) if call.is_loaded && !call.manifest.outputs.contains_key(output) => {
                let help = match call.manifest.outputs.is_empty() {
                    true => Some(format!("add [outputs.{output}] to the module")),
                    false => suggest(output, call.manifest.outputs.keys().map(String::as_str)),
                };
                Err(Unresolved::new(format!("`module.{name}` has no output `{output}`")).help(help))
            }
            _ => Ok(()),
        }
    }

    /// A policy sees only the plan, because the attributes of resources are not known yet.
    fn policy(&mut self, policy: &Policy) {
        for expr in [&policy.condition, &policy.message] {
            for (reference, span) in expr.references() {
                let found = match &reference {
                    Reference::Plan => continue,
                    Reference::Local(name) if self.depends_on_resources(name, &mut BTreeSet::new()) => {
                        Err(not_in_policy(&format!("`local.{name}`, which depends on resources or on data,")))
                    }
                    Reference::Resource { resource, .. } => Err(not_in_policy(&format!("`{resource}`"))),
                    Reference::Module { name, .. } => Err(not_in_policy(&format!("`module.{name}`"))),
                    _ => self.reference(&reference, Bound::default()),
                };
                self.unresolved(found, span);
            }
        }
    }

    /// Whether a local refers to a resource or a data source, directly or through other locals.
    fn depends_on_resources(&self, local: &str, seen: &mut BTreeSet<String>) -> bool {
        let Some(expr) = self.manifest.locals.get(local).filter(|_| seen.insert(local.to_owned())) else {
            return false;
        };
        expr.references().into_iter().any(|(reference, _)| match reference {
            Reference::Resource { .. } | Reference::Module { .. } => true,
            Reference::Local(name) => self.depends_on_resources(&name, seen),
            _ => false,
        })
    }

    /// Checks the nodes, resources and gates of a rollout. Its roles, and the names of nodes from data, are checked when the inventory is evaluated.
    fn rollout(&mut self, rollout: &Rollout) {
        let manifest = self.manifest;
        let is_literal = !self.is_module && manifest.nodes.values().all(|block| block.for_each.is_none());
        for (name, span) in rollout.nodes.iter().filter(|(name, _)| is_literal && !manifest.nodes.contains_key(name)) {
            self.unresolved(Err(Unresolved::unknown("node", name, manifest.nodes.keys().map(String::as_str))), *span);
        }
        self.addresses(&rollout.resources);
        for (gate, span) in &rollout.gates {
            let found = match gate {
                GateName::Resource(address) => self.known_resource(&address.resource),
                GateName::Check(path, name) => match manifest.module(path) {
                    Some(module) if module.checks.contains_key(name) => Ok(()),
                    _ if manifest.is_unloaded(path) => Ok(()),
                    module => {
                        let known = module.into_iter().flat_map(|module| module.checks.keys());
                        Err(Unresolved::unknown("check", name, known.map(String::as_str)))
                    }
                },
            };
            self.unresolved(found, *span);
        }
        for (after, span) in &rollout.after {
            let found = match manifest.module(&after.module) {
                Some(module) if module.rollouts.contains_key(&after.name) => Ok(()),
                _ if manifest.is_unloaded(&after.module) => Ok(()),
                module => {
                    let known = module.into_iter().flat_map(|module| module.rollouts.keys());
                    Err(Unresolved::unknown("rollout", &after.name, known.map(String::as_str)))
                }
            };
            self.unresolved(found, *span);
        }
        if let Some(Drain { resource: (address, span), resources, .. }) = &rollout.drain {
            self.unresolved(self.known_resource(&address.resource), *span);
            self.addresses(resources);
        }
    }

    fn unresolved(&mut self, found: Result<(), Unresolved>, span: Span) {
        self.problems.extend(found.err().map(|error| error.at(span).code(error_codes::UNKNOWN_REFERENCE)));
    }

    /// Checks whether the manifest has the provider instance `NAME.ALIAS`.
    fn provider(&mut self, provider: &(String, Span)) {
        let (name, span) = provider;
        let providers = &self.manifest.providers;
        if !self.is_module && name.contains('.') && !providers.contains_key(name) {
            let diagnostic = Diagnostic::error(format!("unknown provider `{name}`")).at(*span, "");
            let help = suggest(name, providers.keys().map(String::as_str));
            self.problems.push(Diagnostic { help, ..diagnostic });
        }
    }

    /// Checks `moved`, `import` and `removed` against the resources of the manifest.
    fn moves(&mut self) {
        let mut problems = Vec::new();
        for moved in &self.manifest.moved {
            if moved.from.block() != moved.to.block() && self.known(&moved.from).is_ok() {
                let diagnostic = Diagnostic::error(format!("`{}` is still in the manifest", moved.from.block()));
                problems.push(diagnostic.at(moved.span, "a resource of the manifest cannot be moved away"));
            }
            if !moved.from.has_same_type(&moved.to) {
                let summary = format!("`{}` cannot be moved to `{}`: the types differ", moved.from, moved.to);
                let help = "use [[removed]] for the old resource and [[import]] for the new one";
                problems.push(Diagnostic::error(summary).at(moved.span, "").help(help));
            }
        }
        // A chain of `moved` blocks needs only its last destination.
        let moves_on = |to: &Pattern| self.manifest.moved.iter().any(|m| m.from.block() == to.block());
        let arrivals = self.manifest.moved.iter().filter(|moved| !moves_on(&moved.to));
        let arrivals: Vec<(Pattern, Span)> = arrivals.map(|moved| (moved.to.clone(), moved.span)).collect();
        for removed in &self.manifest.removed {
            if removed.from == removed.from.block() && self.known(&removed.from).is_ok() {
                let diagnostic = Diagnostic::error(format!("`{}` is still in the manifest", removed.from));
                problems.push(diagnostic.at(removed.span, "remove this block, or the resource"));
            }
        }
        let imports: Vec<(Pattern, Span)> =
            self.manifest.imports.iter().map(|import| (import.to.clone(), import.span)).collect();
        self.problems.extend(problems);
        self.addresses(&arrivals);
        self.addresses(&imports);
    }

    fn condition(&mut self, condition: &Condition, bound: Bound) {
        self.expr(&condition.condition, bound);
        self.expr(&condition.error_message, bound);
    }

    fn validation(&mut self, name: &str, validation: &Condition) {
        for expr in [&validation.condition, &validation.error_message] {
            for (reference, span) in expr.references() {
                if reference != Reference::Variable(name.to_owned()) {
                    let summary = format!("a validation can refer only to `var.{name}`");
                    self.problems.push(Diagnostic::error(summary).at(span, ""));
                }
            }
        }
    }

    fn expr(&mut self, expr: &Expr, bound: Bound) {
        for (reference, span) in expr.references() {
            self.unresolved(self.reference(&reference, bound), span);
        }
    }

    fn reference(&self, reference: &Reference, bound: Bound) -> Result<(), Unresolved> {
        let manifest = self.manifest;
        let unbound = |name: &str, by: &str| {
            Err(Unresolved::new(format!("`{name}` is not available here")).help(format!("it is available in {by}")))
        };
        match reference {
            Reference::Variable(name) if !manifest.variables.contains_key(name) => {
                Err(Unresolved::unknown("variable", name, manifest.variables.keys().map(String::as_str)))
            }
            Reference::Local(name) if !manifest.locals.contains_key(name) => {
                Err(Unresolved::unknown("local", name, manifest.locals.keys().map(String::as_str)))
            }
            Reference::Node if !bound.node => {
                unbound("node", "a block with `on`, which has one instance for each node")
            }
            Reference::Each if !bound.each => unbound("each", "a block with `for_each`"),
            Reference::Plan => unbound("plan", "a policy"),
            Reference::Environment if manifest.environments.is_empty() => {
                unbound("environment", "a manifest with [environments.NAME]")
            }
            Reference::This if !bound.this => {
                unbound("self", "a postcondition, and in `assert` of a check with `http` or `dns`")
            }
            Reference::Resource { resource, .. } => self.known_resource(resource),
            Reference::Module { name, key, any, output } => {
                self.outputs(name, key.is_some() || *any, output.as_deref())
            }
            _ => Ok(()),
        }
    }

    fn addresses(&mut self, patterns: &[(Pattern, Span)]) {
        for (pattern, span) in patterns {
            self.unresolved(self.known(pattern), *span);
        }
    }

    /// Checks whether the manifest has the blocks of this pattern.
    fn known(&self, pattern: &Pattern) -> Result<(), Unresolved> {
        match pattern {
            Pattern::Module(path) if self.manifest.module(path).is_some() => Ok(()),
            Pattern::Module(path) if self.manifest.is_unloaded(path) => Ok(()),
            Pattern::Module(path) => {
                let known: Vec<_> = self.manifest.modules().iter().map(|(path, _)| path.to_string()).collect();
                let known = known.iter().map(String::as_str).filter(|path| !path.is_empty());
                let help = suggest(&path.without_keys().to_string(), known);
                Err(Unresolved::new(format!("the manifest has no `{path}`")).help(help))
            }
            Pattern::Resource(address) => self.known_resource(&address.resource),
        }
    }

    /// Returns the error for a resource of a module that does not exist.
    fn not_in_modules(&self, address: &ResourceAddress) -> Unresolved {
        let of_module = |(path, module): (ModulePath, &Manifest)| {
            module.resources.keys().map(move |known| known.within(&path).to_string()).collect::<Vec<_>>()
        };
        let known: Vec<String> = self.manifest.modules().into_iter().flat_map(of_module).collect();
        let block = Pattern::Resource(Address::new(address.clone(), None)).block().to_string();
        let help = suggest(&block, known.iter().map(String::as_str));
        Unresolved::new(format!("the manifest has no `{address}`")).help(help)
    }

    /// Checks whether the manifest has this resource.
    fn known_resource(&self, address: &ResourceAddress) -> Result<(), Unresolved> {
        if self.manifest.resource(address).is_some() || self.manifest.is_unloaded(&address.module) {
            return Ok(());
        }
        if !address.module.is_root() {
            return Err(self.not_in_modules(address));
        }
        let resources = &self.manifest.resources;
        let all: Vec<String> = resources.keys().map(ToString::to_string).collect();
        let text = address.to_string();
        let same_mode = || resources.keys().filter(|known| known.mode == address.mode);
        let addresses: Vec<String> = same_mode().map(ToString::to_string).collect();
        let same_type = resources.keys().filter(|known| known.resource_type == address.resource_type);
        let names: Vec<&str> = same_type.map(|known| known.name.as_str()).collect();
        let root =
            || nearest(&address.resource_type, ROOTS).map(|root| format!("did you mean `{root}.{}`?", address.name));
        let help = nearest(&text, all.iter().map(String::as_str))
            .map(|nearest| format!("did you mean `{nearest}`?"))
            .or_else(root)
            .or_else(|| suggest(&address.name, names))
            .or_else(|| {
                let nearest = nearest(&address.resource_type, same_mode().map(|known| known.resource_type.as_str()));
                nearest.map(|nearest| format!("did you mean `{nearest}`?"))
            })
            .or_else(|| suggest(&text, addresses.iter().map(String::as_str)));
        Err(Unresolved::new(format!("the manifest has no `{text}`")).help(help))
    }
}

fn not_in_policy(name: &str) -> Unresolved {
    Unresolved::new(format!("{name} cannot be used in a policy"))
        .help("a policy can refer to `plan`, variables, locals without resources, and `nodes`".to_owned())
}

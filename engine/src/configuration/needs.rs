//! What must be known before an expression can be evaluated.

use std::collections::BTreeSet;

use crate::configuration::expand::Expanded;
use crate::configuration::graph::{Context, LocalReferences, Use, outputs};
use crate::expression::{Expr, Reference};
use crate::manifest::unknown_for_each;
use crate::model::{Diagnostic, Mode, ResourceAddress};

/// Returns the locals of a module instance that have the same value in all blocks: they use neither the node and element of a block nor resources.
pub(crate) fn shared_locals(expanded: &Expanded, module: usize) -> Vec<String> {
    let mut locals = LocalReferences::default();
    let is_same = |Use { context, reference }: &Use| match &reference.reference {
        Reference::Nodes | Reference::Path | Reference::Environment | Reference::Moorfast => true,
        // The element of the call, which is the same for the whole module instance.
        Reference::Each => matches!(context, Context::Call(_)),
        Reference::Resource { resource, .. } => {
            let resource = expanded.absolute(context.module(expanded), resource);
            let is_one = expanded.manifest.resource(&resource).is_some_and(|block| block.for_each.is_none());
            is_one && expanded.static_sources.contains(&resource)
        }
        _ => false,
    };
    let all = expanded.modules[module].manifest.locals.iter();
    let shared = all.filter(|(_, expr)| locals.of(expanded, module, [*expr]).iter().all(is_same));
    shared.map(|(name, _)| name.clone()).collect()
}

/// What must be known before an expression.
pub(crate) struct Needs {
    /// Whether variables, the inventory and static data determine the value.
    pub is_static: bool,
    /// The resources and data sources that the expression uses, directly or through locals, inputs and outputs. If it is not static, only those that are not.
    /// Their paths start at the root and have no keys.
    resources: BTreeSet<ResourceAddress>,
}

impl Needs {
    /// Returns the needs of `expr` of a block in `module`.
    pub fn of(expanded: &Expanded, module: usize, expr: &Expr) -> Self {
        let mut locals = LocalReferences::default();
        let (mut is_static, mut of_static, mut of_others) = (true, BTreeSet::new(), BTreeSet::new());
        let mut open = locals.of(expanded, module, [expr]);
        while let Some(Use { context, reference }) = open.pop() {
            let module = context.module(expanded);
            match &reference.reference {
                Reference::Resource { resource, .. } => {
                    let resource = resource.within(&expanded.modules[module].path.without_keys());
                    match expanded.static_sources.contains(&resource) {
                        true => of_static.insert(resource),
                        false => of_others.insert(resource),
                    };
                }
                Reference::Module { name, output, .. } => {
                    let called = expanded.modules[module].called.get(name).into_iter().flatten();
                    for definition in called.flat_map(|(_, called)| outputs(expanded, *called, output.as_deref())) {
                        open.extend(locals.of_definition(expanded, context, definition));
                    }
                }
                Reference::This | Reference::Plan => is_static = false,
                _ => {}
            }
        }
        is_static &= of_others.is_empty();
        Self { is_static, resources: if is_static { of_static } else { of_others } }
    }

    /// Returns why the elements of `for_each`, whose keys are unknown, are not expanded: static data is not read yet.
    ///
    /// # Errors
    /// Returns the error if the keys do not depend on static data only.
    pub fn unknown_keys(expanded: &Expanded, module: usize, for_each: &Expr) -> Result<Diagnostic, Vec<Diagnostic>> {
        let Self { is_static, resources } = Self::of(expanded, module, for_each);
        let error = unknown_for_each(for_each, resources.iter().map(ToString::to_string));
        let is_local = |resource: &ResourceAddress| {
            let entry = expanded.catalog.find(resource);
            resource.mode == Mode::Data && entry.is_some_and(|entry| entry.resource_type.local_access().is_some())
        };
        match is_static {
            true => Ok(error),
            false if resources.iter().any(is_local) => Err(vec![error.help(
                "a data source of this machine is read before the plan only if its arguments use nothing but variables, locals, functions and other such data, \
                 also in the inputs of its module, and if neither it nor a call of its module has `depends_on`",
            )]),
            false => Err(vec![error]),
        }
    }
}

//! Cycles of locals, and of the inputs and outputs of modules.

use std::collections::{BTreeMap, BTreeSet};

use super::Manifest;
use crate::expression::{Expr, Reference};
use crate::model::{Diagnostic, ModulePath, error_codes};

/// A value that other values can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Local,
    /// A variable of a module.
    Input,
    /// An output of a module.
    Output,
    /// `for_each` of the call of a module. Its outputs are known only after it.
    Elements,
}

/// The name of a value in a module: its path, kind and name.
type Name = (ModulePath, Kind, String);

/// The expressions of each value, with the module that they are written in.
type Values<'m> = BTreeMap<Name, Vec<(ModulePath, &'m Manifest, &'m Expr)>>;

/// Returns an error for each cycle.
pub(super) fn check(root: &Manifest) -> Vec<Diagnostic> {
    let values = values(root);
    let edges: BTreeMap<&Name, Vec<Name>> = values.iter().map(|(name, exprs)| (name, uses(exprs))).collect();
    let (mut done, mut cycles) = (BTreeSet::new(), Vec::new());
    for start in values.keys() {
        if let Some(cycle) = find_cycle(start, &edges, &mut Vec::new(), &mut done) {
            cycles.push(error(&cycle, &values));
        }
    }
    cycles
}

fn values(root: &Manifest) -> Values<'_> {
    let mut values = Values::new();
    for (path, module) in root.modules() {
        let own = |expr| vec![(path.clone(), module, expr)];
        values.extend(module.locals.iter().map(|(name, expr)| ((path.clone(), Kind::Local, name.clone()), own(expr))));
        let outputs = module.outputs.iter().filter(|_| !path.is_root());
        values.extend(outputs.map(|(name, output)| ((path.clone(), Kind::Output, name.clone()), own(&output.value))));
        for (call_name, call) in &module.modules {
            let elements = (path.child(call_name, None), Kind::Elements, String::new());
            values.extend(call.for_each.iter().map(|expr| (elements.clone(), own(expr))));
            for (name, _, expr) in &call.inputs {
                // An input can use the element of `for_each`.
                let exprs = call.for_each.iter().chain([expr]).map(|expr| (path.clone(), module, expr));
                values.insert((path.child(call_name, None), Kind::Input, name.clone()), exprs.collect());
            }
        }
    }
    values
}

/// Returns the values that these expressions use.
fn uses(exprs: &[(ModulePath, &Manifest, &Expr)]) -> Vec<Name> {
    let mut names = Vec::new();
    for (path, module, expr) in exprs {
        for (reference, _) in expr.references() {
            match reference {
                Reference::Local(name) => names.push((path.clone(), Kind::Local, name)),
                Reference::Variable(name) => names.push((path.clone(), Kind::Input, name)),
                Reference::Module { name, output, .. } => {
                    let called = module.modules.get(&name).map(|call| &call.manifest.outputs);
                    let outputs = called.into_iter().flat_map(BTreeMap::keys);
                    let used = outputs.filter(|known| output.as_ref().is_none_or(|output| output == *known));
                    names.extend(used.map(|output| (path.child(&name, None), Kind::Output, output.clone())));
                    names.push((path.child(&name, None), Kind::Elements, String::new()));
                }
                _ => {}
            }
        }
    }
    names
}

fn error(names: &[Name], values: &Values) -> Diagnostic {
    let text = |(path, kind, name): &Name| {
        let inside = if path.is_root() { String::new() } else { format!("{path}.") };
        match kind {
            Kind::Local => format!("{inside}local.{name}"),
            Kind::Input => format!("{inside}var.{name}"),
            Kind::Output => format!("{inside}{name}"),
            Kind::Elements => format!("{inside}for_each"),
        }
    };
    let round: Vec<_> = names.iter().chain(names.first()).map(text).collect();
    let what = if names.iter().all(|(_, kind, _)| *kind == Kind::Local) { "locals" } else { "values" };
    let mut diagnostic =
        Diagnostic::error(format!("{what} form a cycle: {}", round.join(" → "))).code(error_codes::CYCLE);
    let places = names.iter().filter_map(|name| values.get(name)?.last());
    for (i, (_, _, expr)) in places.enumerate() {
        diagnostic = if i == 0 { diagnostic.at(expr.span, "") } else { diagnostic.related(expr.span, "") };
    }
    diagnostic.help("remove one of these references")
}

/// Returns the cycle that is reachable from `name`, unless it was already found.
fn find_cycle(
    name: &Name,
    edges: &BTreeMap<&Name, Vec<Name>>,
    path: &mut Vec<Name>,
    done: &mut BTreeSet<Name>,
) -> Option<Vec<Name>> {
    if let Some(at) = path.iter().position(|on_path| on_path == name) {
        return Some(path[at..].to_vec());
    }
    if done.contains(name) {
        return None;
    }
    path.push(name.clone());
    let cycle = edges.get(name).into_iter().flatten().find_map(|next| find_cycle(next, edges, path, done));
    path.pop();
    done.insert(name.clone());
    cycle
}

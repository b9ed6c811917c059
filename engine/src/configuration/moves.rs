//! `[[moved]]`: the new addresses of records.

use std::collections::BTreeSet;

use crate::configuration::expand::Expanded;
use crate::manifest::Moved;
use crate::model::{Address, Decoded, Diagnostic, Pattern, suggest};

/// Returns the new address of a record after all `moved` blocks that apply one after the other, or `None` if it does not move.
pub(crate) fn destination(moved: &[Moved], address: &Address) -> Option<Address> {
    chain(moved, address, Address::moved)
}

/// Applies the blocks one after the other.
fn chain<T>(moved: &[Moved], start: &T, apply: fn(&T, &Pattern, &Pattern) -> Option<T>) -> Option<T> {
    let step = |from: &T| moved.iter().find_map(|block| apply(from, &block.from, &block.to));
    // At most as many steps as blocks, so that a cycle ends.
    std::iter::successors(step(start), step).take(moved.len()).last()
}

/// Returns the errors for `moved` blocks whose destination is not an instance of the manifest.
pub(crate) fn without_destination(expanded: &Expanded) -> Vec<Diagnostic> {
    let moved = &expanded.moved;
    let moves_on = |to: &Pattern| moved.iter().any(|m| to.moved(&m.from, &m.to).is_some());
    let error = |m: &Moved| {
        let to = match &m.to {
            Pattern::Resource(to) => to,
            Pattern::Module(to)
                if !moves_on(&m.to) && expanded.modules.iter().all(|module| !module.path.is_inside(to)) =>
            {
                let error = Diagnostic::error(format!("the manifest has no module `{to}`"));
                return Some(error.at(m.span, "the destination does not exist"));
            }
            Pattern::Module(_) => return None,
        };
        let is_one = m.from.key().is_some() || to.key.is_some();
        let exists = expanded.index.contains_key(to) || expanded.unexpanded.contains(&to.resource);
        if !is_one || exists || moves_on(&m.to) {
            return None;
        }
        let instances = expanded.by_resource.get(&to.resource).map(Vec::as_slice).unwrap_or_default();
        let names: Vec<_> = instances.iter().map(|i| expanded.instances[*i].address.to_string()).collect();
        let error = Diagnostic::error(format!("the manifest has no instance `{to}`"))
            .at(m.span, "the destination does not exist");
        Some(Diagnostic { help: suggest(&to.to_string(), names.iter().map(String::as_str)), ..error })
    };
    moved.iter().filter_map(error).collect()
}

/// Returns the errors for `moved` blocks whose origin is not in the state, unless the move was already made. An empty state has none.
pub(crate) fn without_origin(expanded: &Expanded, state: &Decoded) -> Vec<Diagnostic> {
    let moved = &expanded.moved;
    if moved.is_empty() {
        return Vec::new();
    }
    let recorded: BTreeSet<&Address> = state.addresses().collect();
    if recorded.is_empty() {
        return Vec::new();
    }
    let is_known = |pattern: &Pattern| recorded.iter().any(|address| address.matches(pattern));
    let has_moved = |m: &Moved| is_known(&m.to) || chain(moved, &m.to, Pattern::moved).is_some_and(|to| is_known(&to));
    let error = |m: &Moved| {
        let error =
            Diagnostic::error(format!("the state has no resource `{}`", m.from)).at(m.span, "this block has no effect");
        let names: Vec<_> = recorded.iter().map(ToString::to_string).collect();
        let nearest = crate::model::nearest(&m.from.to_string(), names.iter().map(String::as_str));
        error.help(match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "`moorfast state list` lists the resources; remove the block if it is no longer needed".to_owned(),
        })
    };
    moved.iter().filter(|m| !is_known(&m.from) && !has_moved(m)).map(error).collect()
}

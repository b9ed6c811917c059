//! `[[moved]]`: the new addresses of records.

use std::collections::BTreeSet;

use crate::configuration::expand::Expanded;
use crate::manifest::Moved;
use crate::model::{Address, Decoded, Diagnostic, suggest};

/// Returns the new address of a record after all `moved` blocks that apply one after the other, or `None` if it does not move.
pub(crate) fn destination(moved: &[Moved], address: &Address) -> Option<Address> {
    let step = |from: &Address| {
        // A block without keys moves all instances. A block with a key only in `to` moves the instance without a key.
        let applies = |m: &&Moved| from.matches(&m.from) && (m.from.key == from.key || m.to.key.is_none());
        let block = moved.iter().find(applies)?;
        let keeps_key = block.from.key.is_none() && block.to.key.is_none();
        let key = if keeps_key { from.key.clone() } else { block.to.key.clone() };
        Some(Address { resource: block.to.resource.clone(), key })
    };
    // At most as many steps as blocks, so that a cycle ends.
    std::iter::successors(step(address), step).take(moved.len()).last()
}

/// Returns the errors for `moved` blocks whose destination is not an instance of the manifest.
pub(crate) fn without_destination(expanded: &Expanded) -> Vec<Diagnostic> {
    let moved = &expanded.manifest.moved;
    let moves_on = |address: &Address| moved.iter().any(|m| address.matches(&m.from));
    let is_one = |m: &&Moved| m.from.key.is_some() || m.to.key.is_some();
    let without_target =
        moved.iter().filter(is_one).filter(|m| !expanded.index.contains_key(&m.to) && !moves_on(&m.to));
    let error = |m: &Moved| {
        let instances = expanded.by_resource.get(&m.to.resource).map(Vec::as_slice).unwrap_or_default();
        let names: Vec<_> = instances.iter().map(|i| expanded.instances[*i].address.to_string()).collect();
        let error = Diagnostic::error(format!("the manifest has no instance `{}`", m.to))
            .at(m.span, "the destination does not exist");
        Diagnostic { help: suggest(&m.to.to_string(), names.iter().map(String::as_str)), ..error }
    };
    without_target.map(error).collect()
}

/// Returns the errors for `moved` blocks whose origin is not in the state, unless the move was already made. An empty state has none.
pub(crate) fn without_origin(expanded: &Expanded, state: &Decoded) -> Vec<Diagnostic> {
    let moved = &expanded.manifest.moved;
    if moved.is_empty() {
        return Vec::new();
    }
    let recorded: BTreeSet<&Address> = state.addresses().collect();
    if recorded.is_empty() {
        return Vec::new();
    }
    let is_known = |pattern: &Address| recorded.iter().any(|address| address.matches(pattern));
    let has_moved = |m: &Moved| is_known(&m.to) || destination(moved, &m.to).is_some_and(|to| is_known(&to));
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

//! What `restart_on` and `replace_triggered_by` watch.

use moorfast_state::{Digest, Record};

use super::planner::Planner;
use super::reading::taken_over;
use crate::configuration::expand::Instance;
use crate::configuration::graph::matching;
use crate::model::{Address, Span};
use crate::provider::Action;

impl Planner<'_> {
    /// The instances of `restart_on` that change, or changed in a run that did not come to this instance.
    pub(super) fn triggers(&self, instance: &Instance, recorded: Option<&Record>) -> Vec<(Address, bool)> {
        self.watched(instance, &instance.resource.restart_on, recorded)
    }

    pub(super) fn watched(
        &self,
        instance: &Instance,
        patterns: &[(Address, Span)],
        recorded: Option<&Record>,
    ) -> Vec<(Address, bool)> {
        let watched = patterns.iter().filter_map(|(p, _)| matching(self.expanded, p, &instance.binding)).flatten();
        let changed = |address: Address| {
            let action = self.actions.get(&address).copied().unwrap_or(Action::NoOp);
            if action.is_change() && action != Action::Adopt {
                return Some((address, false));
            }
            let seen = recorded?.triggers.get(&address.to_string())?;
            (*seen != self.digest_after(&address)?).then_some((address, true))
        };
        watched.filter_map(changed).collect()
    }

    /// The digest that the record of an instance without a change will have: a run may have died between its change and its record,
    /// or somebody else may have brought it to where the manifest wants it.
    fn digest_after(&self, address: &Address) -> Option<Digest> {
        let known = self.records.get(address)?;
        let observed = self.draft.items.get(address).and_then(|item| item.observed.as_ref());
        let Some(observed) = observed else { return Some(known.digest()) };
        let attributes = taken_over(Some(known), observed, self.key);
        Some(Record { attributes, ..(**known).clone() }.digest())
    }
}

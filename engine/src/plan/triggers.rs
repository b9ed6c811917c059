//! The instances that `restart_on` and `replace_triggered_by` watch.

use moorfast_state::{Digest, Record};

use super::planner::Planner;
use super::reading::merged_attributes;
use crate::configuration::expand::Instance;
use crate::configuration::graph::matching;
use crate::model::{Address, Span};
use crate::provider::Action;

impl Planner<'_> {
    /// Returns the instances of `restart_on` that change, or that changed in a run that did not restart this instance (`true`).
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

    /// Returns the digest that the record of an unchanged instance will have. It may differ from the recorded digest if a run was killed between a change and its
    /// record, or if somebody else gave the object its desired attributes.
    fn digest_after(&self, address: &Address) -> Option<Digest> {
        let known = self.records.get(address)?;
        let observed = self.draft.items.get(address).and_then(|item| item.observed.as_ref());
        let Some(observed) = observed else { return Some(known.digest()) };
        let attributes = merged_attributes(Some(known), observed, self.key);
        Some(Record { attributes, ..(**known).clone() }.digest())
    }
}

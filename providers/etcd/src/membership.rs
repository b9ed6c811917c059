//! The members of a cluster, and which change of them is permitted. Nothing here does any I/O.

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// The name. Empty if the member was added and has not started yet.
    pub(crate) name: String,
    pub(crate) peer_url: String,
    /// Whether the member is a learner: it receives the data and does not vote.
    pub(crate) is_learner: bool,
    pub(crate) health: Health,
}

/// Whether a member answers and has a leader, otherwise the reason.
pub(crate) type Health = Result<(), String>;

impl Member {
    fn is_healthy(&self) -> bool {
        self.health.is_ok()
    }

    /// Returns what messages call the member.
    pub(crate) fn title(&self) -> &str {
        if self.name.is_empty() { &self.peer_url } else { &self.name }
    }
}

/// All members of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(pub(crate) Vec<Member>);

/// A change of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Add a learner.
    Add,
    /// Let a learner vote.
    Promote(u64),
    /// Remove a member.
    Remove(u64),
}

/// Whether a change is permitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Permitted,
    /// Another change must be completed first.
    Wait(String),
    /// The cluster would lose its quorum, or has lost it.
    Refused(String),
}

impl Members {
    /// Returns the member with this name, otherwise the one with this peer URL.
    pub(crate) fn find(&self, name: &str, peer_url: &str) -> Option<&Member> {
        let by_name = self.0.iter().find(|member| member.name == name);
        by_name.or_else(|| self.0.iter().find(|member| member.peer_url == peer_url))
    }

    /// Whether a change is permitted: the members that vote and are healthy are a quorum before and after it.
    pub(crate) fn verdict(&self, change: Change) -> Verdict {
        let member = |id| self.0.iter().find(|member| member.id == id);
        if let Err(reason) = quorum(self.voters(), None) {
            return Verdict::Refused(format!("the cluster has no quorum: {reason}"));
        }
        match change {
            Change::Add => match self.0.iter().find(|member| member.is_learner) {
                Some(learner) => Verdict::Wait(format!("{} is still a learner", learner.title())),
                None => Verdict::Permitted,
            },
            Change::Promote(id) => match member(id).map(|learner| (learner, &learner.health)) {
                Some((learner, Err(reason))) => Verdict::Wait(format!("{} is not healthy: {reason}", learner.title())),
                Some((learner, Ok(()))) => {
                    self.permitted(&format!("promoting {}", learner.title()), Some(learner), None)
                }
                None => Verdict::Permitted,
            },
            Change::Remove(id) => match member(id).filter(|member| !member.is_learner) {
                Some(voter) => self.permitted(&format!("removing {}", voter.title()), None, Some(voter)),
                None => Verdict::Permitted,
            },
        }
    }

    /// Whether these members can stop, and be removed afterwards: the others are a quorum without them.
    pub(crate) fn verdict_of_stop(&self, ids: &[u64]) -> Verdict {
        let mut stopped = self.clone();
        for member in stopped.0.iter_mut().filter(|member| ids.contains(&member.id) && member.is_healthy()) {
            member.health = Err("stops".to_owned());
        }
        let titles: Vec<_> = self.0.iter().filter(|member| ids.contains(&member.id)).map(Member::title).collect();
        match quorum(stopped.voters(), Some(&format!("removing {}", titles.join(" and ")))) {
            Ok(()) => Verdict::Permitted,
            Err(reason) => Verdict::Refused(reason),
        }
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(|member| !member.is_learner)
    }

    /// Permits a change if the voters after it have a quorum.
    fn permitted(&self, change: &str, added: Option<&Member>, removed: Option<&Member>) -> Verdict {
        let after = self.voters().filter(|voter| removed.is_none_or(|removed| removed.id != voter.id)).chain(added);
        match quorum(after, Some(change)) {
            Ok(()) => Verdict::Permitted,
            Err(reason) => Verdict::Refused(reason),
        }
    }
}

/// Checks that these voters have a quorum. `after` is the change that led to them.
fn quorum<'a>(voters: impl Iterator<Item = &'a Member>, after: Option<&str>) -> Result<(), String> {
    let voters: Vec<_> = voters.collect();
    let needed = voters.len() / 2 + 1;
    let healthy = voters.iter().filter(|voter| voter.is_healthy()).count();
    let unhealthy =
        voters.iter().filter_map(|voter| Some(format!("{} ({})", voter.title(), voter.health.as_ref().err()?)));
    let unhealthy = unhealthy.collect::<Vec<_>>().join(", ");
    let all = voters.len();
    match (after, healthy >= needed) {
        (_, true) => Ok(()),
        (Some(change), _) if voters.is_empty() => Err(format!("{change} would leave no member that votes")),
        (Some(change), _) => Err(format!(
            "{change} would leave {healthy} of {all} voting members healthy, and the quorum is {needed}; not healthy: {unhealthy}"
        )),
        (None, _) => Err(format!(
            "{healthy} of {all} voting members are healthy, and the quorum is {needed}; not healthy: {unhealthy}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns members: `+` is a healthy voter, `-` an unhealthy one, `l` a healthy learner, `x` an unhealthy one. The first is `m1`.
    fn members(text: &str) -> Members {
        let member = |(index, kind): (usize, char)| Member {
            id: index as u64 + 1,
            name: format!("m{}", index + 1),
            peer_url: format!("https://10.0.0.{}:2380", index + 1),
            is_learner: "lx".contains(kind),
            health: if "+l".contains(kind) { Ok(()) } else { Err("no answer".to_owned()) },
        };
        Members(text.chars().enumerate().map(member).collect())
    }

    #[test]
    fn a_change_is_permitted_if_the_quorum_survives_it() {
        use Change::{Add, Promote, Remove};
        // The first letter of the verdict.
        for (text, change, verdict) in [
            ("+++", Remove(1), 'P'),
            ("-++", Remove(1), 'P'),
            ("--+", Remove(1), 'R'),
            ("+-+", Remove(1), 'R'),
            ("+-+", Remove(2), 'P'),
            ("++", Remove(1), 'P'),
            ("-+", Remove(1), 'R'),
            ("+", Remove(1), 'R'),
            ("-", Remove(1), 'R'),
            ("--+++", Remove(1), 'P'),
            ("--++++", Remove(3), 'P'),
            ("--+++", Remove(3), 'R'),
            ("---++", Remove(1), 'R'),
            ("++x", Remove(3), 'P'),
            ("-+x", Remove(3), 'R'),
            ("++", Add, 'P'),
            ("++l", Add, 'W'),
            ("++x", Add, 'W'),
            ("-+", Add, 'R'),
            ("-++", Add, 'P'),
            ("++l", Promote(3), 'P'),
            ("++x", Promote(3), 'W'),
            ("+l", Promote(2), 'P'),
            ("++-l", Promote(4), 'P'),
            ("+--l", Promote(4), 'R'),
            ("+++", Promote(9), 'P'),
            ("+++", Remove(9), 'P'),
        ] {
            let found = members(text).verdict(change);
            assert!(format!("{found:?}").starts_with(verdict), "{text} {change:?}: {found:?}");
        }
    }

    #[test]
    fn members_stop_before_they_are_removed() {
        for (text, ids, verdict) in [
            ("+++", &[1][..], 'P'),
            ("+++", &[1, 2], 'R'),
            ("-++", &[1], 'P'),
            ("+-+", &[1], 'R'),
            ("++", &[1], 'R'),
            ("+++++", &[1, 2], 'P'),
            ("++l", &[3], 'P'),
        ] {
            let found = members(text).verdict_of_stop(ids);
            assert!(format!("{found:?}").starts_with(verdict), "{text} {ids:?}: {found:?}");
        }
        let Verdict::Refused(reason) = members("+++").verdict_of_stop(&[1, 2]) else { panic!("not refused") };
        assert_eq!(
            reason,
            "removing m1 and m2 would leave 1 of 3 voting members healthy, and the quorum is 2; not healthy: m1 (stops), m2 (stops)"
        );
    }

    #[test]
    fn a_refusal_names_the_members_that_are_not_healthy_and_the_quorum() {
        let refused = |text: &str, change| match members(text).verdict(change) {
            Verdict::Refused(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused("+-+", Change::Remove(1)),
            "removing m1 would leave 1 of 2 voting members healthy, and the quorum is 2; not healthy: m2 (no answer)"
        );
        assert_eq!(
            refused("--+", Change::Remove(1)),
            "the cluster has no quorum: 1 of 3 voting members are healthy, and the quorum is 2; \
             not healthy: m1 (no answer), m2 (no answer)"
        );
        assert_eq!(refused("+", Change::Remove(1)), "removing m1 would leave no member that votes");
    }

    #[test]
    fn no_sequence_of_permitted_changes_loses_the_quorum() {
        // Every cluster of up to six members in every state of health, and every change of it.
        for (size, health) in (1..=6_u32).flat_map(|size| (0..3_u32.pow(size)).map(move |health| (size, health))) {
            let kind = |place| ['+', '-', 'l'][(health / 3_u32.pow(place) % 3) as usize];
            let before = members(&(0..size).map(kind).collect::<String>());
            for id in 1..=u64::from(size) {
                for change in [Change::Remove(id), Change::Promote(id)] {
                    if before.verdict(change) != Verdict::Permitted {
                        continue;
                    }
                    let mut after = before.clone();
                    match change {
                        Change::Remove(_) => after.0.retain(|member| member.id != id),
                        _ => after.0.iter_mut().filter(|member| member.id == id).for_each(|m| m.is_learner = false),
                    }
                    let healthy = after.voters().filter(|voter| voter.is_healthy()).count();
                    assert!(healthy > after.voters().count() / 2, "{before:?} {change:?}");
                }
            }
        }
    }
}

//! The resource type `etcd_member`: a member of the cluster, before its etcd starts.

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Consequence, Declaration, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, ReadRequest, TargetKind,
};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{Reading, Resource};
use crate::attributes::attributes;
use crate::cluster::{Cluster, Recorded, Step, View, refused};
use crate::config::{Config, initial_cluster};
use crate::membership::{Change, Member, Members, Verdict};

/// The resource type `etcd_member`.
pub(crate) struct MemberType;

const INITIAL_CLUSTER: &str = "initial_cluster";
const INITIAL_CLUSTER_STATE: &str = "initial_cluster_state";
/// What a destroy of all members also removes.
const WHOLE_CLUSTER: &str = "the etcd cluster with its data: all of its members are destroyed";

#[async_trait]
impl Resource for MemberType {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A member of an etcd cluster, before its etcd starts: configure etcd with the computed attributes. As long as nothing answers and no `etcd_voter` is \
             recorded, a new cluster forms, and all members can start together. Otherwise the member is added as a learner, and `etcd_voter` lets it vote. If the machine of the node is \
             replaced, the old member is removed first. The members are changed one at a time, and a change that would cost the quorum is refused, with the members that are \
             not healthy. A destroy removes the member, unless it destroys all members. The data directory of a new member must be empty.",
            [
                Attribute::required("name", Kind::String, "Name of the member, a key of `members` of the provider.")
                    .replaces(),
                Attribute::computed("peer_url", Kind::String, "URL for the other members, from the provider."),
                Attribute::computed("client_url", Kind::String, "URL for clients, from the provider."),
                Attribute::computed(
                    INITIAL_CLUSTER,
                    Kind::String,
                    "The flag `--initial-cluster` for the first start of the member. It stays the same when other members change.",
                ),
                Attribute::computed(
                    INITIAL_CLUSTER_STATE,
                    Kind::String,
                    "The flag `--initial-cluster-state` for the first start: `new` or `existing`.",
                ),
            ],
        );
        Declaration { name: "etcd_member", target_kind: TargetKind::Provider, schema }
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("member/{}", attributes.text("name")?))
    }

    fn is_bound_to_machine(&self) -> bool {
        true
    }

    fn read(&self, cluster: &Cluster, view: &Result<View, String>, request: &ReadRequest) -> Reading {
        let Some(name) = request.identity().as_deref().and_then(name_of).map(str::to_owned) else { return Ok(None) };
        let recorded = request.recorded.as_ref().filter(|record| Some(&record.identity) == request.identity().as_ref());
        let recorded = recorded.map(|record| recorded_values(&record.attributes));
        let attributes = match view {
            Ok(view) => {
                let known = recorded.as_ref().and_then(|recorded| recorded.text("peer_url")).unwrap_or_default();
                let peer_url = cluster.config.members.get(&name).map_or(known, |urls| urls.peer.as_str());
                let found = view.members.find(&name, peer_url);
                found.map(|member| {
                    of_member(&cluster.config, &view.members, &name, member, recorded.unwrap_or_default())
                })
            }
            // A cluster that is down is reported by its voters.
            Err(_) if recorded.is_some() => recorded,
            Err(reasons) if cluster.recorded().has_formed => return Err(no_answer(&name, reasons)),
            Err(_) => None,
        };
        Ok(attributes.map(|attributes| Observed { attributes, private: Json::Null }))
    }

    fn plan(
        &self,
        cluster: &Cluster,
        view: &Result<View, String>,
        request: &PlanRequest,
    ) -> Result<Proposal, ProviderError> {
        let mut planned = match request.desired.text("name") {
            Some(name) => configured(&cluster.config, name)?,
            None => request.desired.clone(),
        };
        if let Some(observed) = &request.observed {
            let all: Attributes = observed.attributes.clone().into_iter().chain(planned).collect();
            let action = if all == observed.attributes { ProposedAction::NoOp } else { ProposedAction::Update };
            return Ok(Proposal::new(action, all));
        }
        let (state, members, note) = match view {
            Ok(view) => match view.members.verdict(Change::Add) {
                Verdict::Refused(reason) => return Err(refused(&reason)),
                _ => ("existing", Value::Unknown, "is added to the cluster as a learner"),
            },
            Err(_) => ("new", cluster.config.initial_cluster().into(), "no member answers yet: a new cluster forms"),
        };
        planned.extend(attributes([(INITIAL_CLUSTER, members), (INITIAL_CLUSTER_STATE, state.into())]));
        Ok(Proposal { notes: vec![note.to_owned()], ..Proposal::new(ProposedAction::Create, planned) })
    }

    async fn apply(
        &self,
        cluster: &Cluster,
        operation: &Operation,
        deadline: Instant,
    ) -> Result<Applied, ProviderError> {
        let address = &operation.address;
        match &operation.action {
            OperationAction::Create(desired) => {
                let name = desired.text("name").unwrap_or_default();
                let peer_url = &cluster.config.member(name)?.peer;
                if let Err(reasons) = cluster.view().await? {
                    if cluster.recorded().has_formed && !destroys_cluster(operation) {
                        return Err(no_answer(name, &reasons));
                    }
                    let mut new = configured(&cluster.config, name)?;
                    let all = cluster.config.initial_cluster();
                    new.extend(attributes([(INITIAL_CLUSTER, all.into()), (INITIAL_CLUSTER_STATE, "new".into())]));
                    return Ok(Applied { attributes: new, ..Applied::default() });
                }
                let add = |view: &View| {
                    let is_member = view.members.find(name, peer_url).is_some();
                    Ok((!is_member).then(|| Step::Add(peer_url.clone())))
                };
                let view = cluster.change(address, deadline, add).await?;
                applied(cluster, &view, name, Attributes::new())
            }
            OperationAction::Update(desired) => {
                let name = desired.text("name").unwrap_or_default();
                let peer_url = &cluster.config.member(name)?.peer;
                let observed = operation.observed.as_ref().map(|observed| observed.attributes.clone());
                let observed = observed.unwrap_or_default();
                if observed.text("peer_url") == Some(peer_url) {
                    // Only the URL for clients differs, or an operation is repeated. Neither needs the cluster.
                    let own = configured(&cluster.config, name)?;
                    let attributes = observed.into_iter().chain(own).collect();
                    return Ok(Applied { attributes, ..Applied::default() });
                }
                let change = |view: &View| match view.members.find(name, peer_url) {
                    Some(member) if member.peer_url != *peer_url => Ok(Some(Step::Move(member.id, peer_url.clone()))),
                    Some(_) => Ok(None),
                    None => Err(ProviderError::new(Class::Conflict, format!("{name} is not a member any more"))
                        .help("plan again")),
                };
                let view = cluster.change(address, deadline, change).await?;
                applied(cluster, &view, name, observed)
            }
            OperationAction::Delete => remove(cluster, operation, deadline).await,
        }
    }
}

/// Removes a member from the cluster.
async fn remove(cluster: &Cluster, operation: &Operation, deadline: Instant) -> Result<Applied, ProviderError> {
    let identity = operation.identity().unwrap_or_default();
    let name = name_of(&identity).unwrap_or_default();
    // If the whole cluster goes, its members stop and keep their list.
    if destroys_cluster(operation) {
        return Ok(Applied::default());
    }
    if let Err(reasons) = cluster.view().await? {
        return match cluster.recorded().has_formed {
            true => Err(no_answer(name, &reasons)),
            false => Ok(Applied::default()),
        };
    }
    let recorded = operation.recorded.as_ref().map(|record| recorded_values(&record.attributes)).unwrap_or_default();
    let peer_url = recorded.text("peer_url").unwrap_or_default();
    let remove = |view: &View| Ok(view.members.find(name, peer_url).map(|member| Step::Remove(member.id)));
    cluster.change(&operation.address, deadline, remove).await?;
    Ok(Applied::default())
}

/// Returns what the removal of the members with these identities causes.
///
/// # Errors
/// If the cluster would lose its quorum.
pub(crate) fn removal(
    view: &Result<View, String>,
    recorded: &Recorded,
    identities: &[&str],
) -> Result<Vec<Consequence>, ProviderError> {
    let removed: Vec<_> = identities.iter().filter_map(|identity| name_of(identity)).collect();
    let is_removed = |name: &str| removed.contains(&name);
    let removes_all = recorded.members.iter().all(|name| is_removed(name));
    let whole = || vec![Consequence::Removal { object: WHOLE_CLUSTER.to_owned() }];
    let view = match view {
        Ok(view) => view,
        Err(_) if !recorded.has_formed => return Ok(Vec::new()),
        Err(_) if removes_all => return Ok(whole()),
        Err(reasons) => return Err(no_answer(&removed.join(", "), reasons)),
    };
    let Members(members) = &view.members;
    if removes_all && members.iter().filter(|member| !is_removed(&member.name)).all(|member| member.health.is_err()) {
        return Ok(whole());
    }
    let ids: Vec<_> = members.iter().filter(|member| is_removed(&member.name)).map(|member| member.id).collect();
    match view.members.verdict_of_stop(&ids) {
        Verdict::Refused(reason) if !ids.is_empty() => Err(refused(&reason)),
        _ => Ok(Vec::new()),
    }
}

/// Whether the plan showed that the whole cluster is destroyed.
fn destroys_cluster(operation: &Operation) -> bool {
    let is_whole =
        |consequence: &Consequence| matches!(consequence, Consequence::Removal { object } if object == WHOLE_CLUSTER);
    operation.consequences.iter().any(is_whole)
}

/// Returns the name in the identity of a member.
pub(crate) fn name_of(identity: &str) -> Option<&str> {
    identity.strip_prefix("member/")
}

/// Returns the attributes that the configuration of the provider determines.
fn configured(config: &Config, name: &str) -> Result<Attributes, ProviderError> {
    let urls = config.member(name)?;
    Ok(attributes([
        ("name", name.into()),
        ("peer_url", urls.peer.as_str().into()),
        ("client_url", urls.client.as_str().into()),
    ]))
}

/// Returns the attributes of a member of the cluster. Those of its first start are the `recorded` ones, as far as there are any.
fn of_member(config: &Config, members: &Members, name: &str, member: &Member, recorded: Attributes) -> Attributes {
    // A member that was added and has not started has no name yet. Any other one probably started with the cluster.
    let (all, state) = match member.name.is_empty() {
        true => (current(config, members, name, member.id), "existing"),
        false => (config.initial_cluster(), "new"),
    };
    let mut found = attributes([(INITIAL_CLUSTER, all.into()), (INITIAL_CLUSTER_STATE, state.into())]);
    if let Some(urls) = config.members.get(name) {
        found.insert("client_url".to_owned(), urls.client.as_str().into());
    }
    found.extend(recorded.into_iter().filter(|(_, value)| !value.is_null()));
    found.extend(attributes([("name", name.into()), ("peer_url", member.peer_url.as_str().into())]));
    found
}

/// Returns the flag `--initial-cluster` for the member `id` that joins these members.
fn current(config: &Config, Members(members): &Members, name: &str, id: u64) -> String {
    let name_of = |member: &Member| {
        let configured = || config.members.iter().find(|(_, urls)| urls.peer == member.peer_url);
        match member.name.as_str() {
            _ if member.id == id => name.to_owned(),
            "" => configured().map_or_else(|| format!("member-{:x}", member.id), |(name, _)| name.clone()),
            name => name.to_owned(),
        }
    };
    let named: Vec<_> = members.iter().map(|member| (name_of(member), member.peer_url.as_str())).collect();
    initial_cluster(named.iter().map(|(name, peer)| (name.as_str(), *peer)))
}

fn applied(cluster: &Cluster, view: &View, name: &str, recorded: Attributes) -> Result<Applied, ProviderError> {
    let peer_url = &cluster.config.member(name)?.peer;
    let member = view.members.find(name, peer_url);
    let attributes = member.map(|member| of_member(&cluster.config, &view.members, name, member, recorded));
    Ok(Applied { attributes: attributes.unwrap_or_default(), ..Applied::default() })
}

fn no_answer(name: &str, reasons: &str) -> ProviderError {
    let summary = format!("no member of the etcd cluster answers, so that {name} can neither be added nor removed");
    ProviderError::new(Class::Unreachable, summary).detail([reasons.to_owned()])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::config::Urls;

    fn config() -> Config {
        let urls =
            |n: u8| Urls { peer: format!("https://10.0.0.{n}:2380"), client: format!("https://10.0.0.{n}:2379") };
        let members = (1..=3).map(|n| (format!("m{n}"), urls(n))).collect::<BTreeMap<_, _>>();
        Config { members, client: None, certificate_authority: None }
    }

    fn member(n: u64, name: &str, health: Result<(), String>) -> Member {
        let peer_url = format!("https://10.0.0.{n}:2380");
        Member { id: n, name: name.to_owned(), peer_url, is_learner: false, health }
    }

    fn view(members: Vec<Member>) -> Result<View, String> {
        Ok(View { members: Members(members), url: String::new() })
    }

    #[test]
    fn the_flags_of_the_first_start_follow_from_the_list_and_stay() {
        let members = Members(vec![member(2, "m2", Ok(())), member(1, "", Ok(())), member(9, "other", Ok(()))]);
        let of = |n: usize, recorded| of_member(&config(), &members, &format!("m{n}"), &members.0[2 - n], recorded);
        let added = of(1, Attributes::new());
        assert_eq!(added.text(INITIAL_CLUSTER_STATE), Some("existing"));
        let all = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,other=https://10.0.0.9:2380";
        assert_eq!(added.text(INITIAL_CLUSTER), Some(all));
        assert_eq!(of(2, Attributes::new()).text(INITIAL_CLUSTER), Some(config().initial_cluster().as_str()));
        let kept = of(2, attributes([(INITIAL_CLUSTER, "as before".into())]));
        assert_eq!(kept.text(INITIAL_CLUSTER), Some("as before"));
    }

    #[test]
    fn a_removal_is_refused_or_is_that_of_the_whole_cluster() {
        let recorded = |names: &[&str], has_formed| Recorded {
            members: names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
            has_formed,
        };
        let down = || Err("connection refused".to_owned());
        let three = |second: Result<(), String>| {
            view(vec![member(1, "m1", down()), member(2, "m2", second), member(3, "m3", Ok(()))])
        };
        let all = ["m1", "m2", "m3"];
        for (view, names, has_formed, removed, expected) in [
            (three(Ok(())), &all[..], true, &["member/m1"][..], "nothing"),
            (three(down()), &all, true, &["member/m1"], "refused"),
            (three(Ok(())), &all, true, &["member/m1", "member/m2", "member/m3"], "whole"),
            // The rest of a destroy that was interrupted.
            (three(Ok(())), &all[1..], true, &["member/m2", "member/m3"], "whole"),
            // Only one member of a cluster that others manage.
            (three(Ok(())), &all[2..], true, &["member/m3"], "refused"),
            (Err("down".to_owned()), &all, true, &["member/m1"], "unreachable"),
            (Err("down".to_owned()), &all, true, &["member/m1", "member/m2", "member/m3"], "whole"),
            (Err("down".to_owned()), &all, false, &["member/m1"], "nothing"),
        ] {
            let found = match removal(&view, &recorded(names, has_formed), removed) {
                Ok(consequences) if consequences.is_empty() => "nothing",
                Ok(_) => "whole",
                Err(error) if error.class == Class::Unreachable => "unreachable",
                Err(_) => "refused",
            };
            assert_eq!(found, expected, "{names:?} {removed:?}");
        }
    }
}

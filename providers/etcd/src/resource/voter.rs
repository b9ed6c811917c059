//! The resource type `etcd_voter`: a member that has started, has received all data and votes.

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, TargetKind,
};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{Reading, Resource};
use crate::attributes::attributes;
use crate::cluster::{Cluster, Step, View};
use crate::membership::{Member, Members};

/// The resource type `etcd_voter`.
pub(crate) struct VoterType;

const STATUS: &str = "status";
const UNKNOWN_MEMBERS: &str = "unknown_members";

const VOTER: &str = "voter";
const LEARNER: &str = "learner";
const NOT_HEALTHY: &str = "not healthy";

#[async_trait]
impl Resource for VoterType {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A member of an etcd cluster that votes, after its etcd has started. An apply waits until the member is healthy, and promotes a learner as soon as it has \
             received all data. A destroy changes nothing: `etcd_member` removes the member.",
            [
                Attribute::required("name", Kind::String, "Name of the member: `${etcd_member.NAME.name}`.").replaces(),
                Attribute::computed(
                    STATUS,
                    Kind::String,
                    "`voter`; `learner` if the member has not been promoted; `not healthy` if it does not answer or has no leader.",
                ),
                Attribute::computed(
                    UNKNOWN_MEMBERS,
                    Kind::list(Kind::String),
                    "The members of the cluster that `members` of the provider does not have. Only the first member has this attribute, so that each is reported once.",
                )
                .reported(),
            ],
        );
        Declaration { name: "etcd_voter", target_kind: TargetKind::Provider, schema }
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("voter/{}", attributes.text("name")?))
    }

    fn has_health(&self) -> bool {
        true
    }

    fn read(&self, cluster: &Cluster, view: &Result<View, String>, request: &ReadRequest) -> Reading {
        let identity = request.identity().unwrap_or_default();
        let Some(name) = name_of(&identity) else { return Ok(None) };
        let found = match view {
            Ok(view) => find(cluster, view, name).map(|member| observed(cluster, &view.members, name, member)),
            Err(_) => {
                let recorded = request.recorded.as_ref().map(|record| recorded_values(&record.attributes));
                recorded
                    .map(|recorded| recorded.into_iter().chain(attributes([(STATUS, NOT_HEALTHY.into())])).collect())
            }
        };
        Ok(found.map(|attributes| Observed { attributes, private: Json::Null }))
    }

    fn plan(
        &self,
        cluster: &Cluster,
        _: &Result<View, String>,
        request: &PlanRequest,
    ) -> Result<Proposal, ProviderError> {
        let observed = request.observed.as_ref().map(|observed| &observed.attributes);
        let action = match observed {
            None => ProposedAction::Create,
            Some(observed) if observed.text(STATUS) == Some(VOTER) => ProposedAction::NoOp,
            Some(_) => ProposedAction::Update,
        };
        let mut planned = request.desired.clone();
        planned.insert(STATUS.to_owned(), VOTER.into());
        let unknown = match (&action, observed.and_then(|observed| observed.get(UNKNOWN_MEMBERS))) {
            (ProposedAction::NoOp, Some(known)) => Some(known.clone()),
            (ProposedAction::NoOp, None) => None,
            _ => is_first(cluster, request.desired.text("name").unwrap_or_default()).then_some(Value::Unknown),
        };
        planned.extend(unknown.map(|unknown| (UNKNOWN_MEMBERS.to_owned(), unknown)));
        let note = observed.and_then(|observed| match observed.text(STATUS) {
            Some(LEARNER) => Some("is promoted as soon as it has received all data"),
            Some(NOT_HEALTHY) => Some("waits until the member is healthy"),
            _ => None,
        });
        let notes = note.map(str::to_owned).into_iter().collect();
        Ok(Proposal { notes, ..Proposal::new(action, planned) })
    }

    async fn apply(
        &self,
        cluster: &Cluster,
        operation: &Operation,
        deadline: Instant,
    ) -> Result<Applied, ProviderError> {
        let (OperationAction::Create(desired) | OperationAction::Update(desired)) = &operation.action else {
            return Ok(Applied::default());
        };
        let name = desired.text("name").unwrap_or_default();
        let promote = |view: &View| match find(cluster, view, name) {
            Some(Member { health: Ok(()), is_learner: true, id, .. }) => Ok(Some(Step::Promote(*id))),
            _ => waits_for(cluster, view, name),
        };
        let view = cluster.change(&operation.address, deadline, promote).await?;
        let member = find(cluster, &view, name);
        let attributes = member.map(|member| observed(cluster, &view.members, name, member)).unwrap_or_default();
        Ok(Applied { attributes, ..Applied::default() })
    }
}

/// Returns what a health gate of the member waits for. `None` if the member is healthy and votes.
///
/// # Errors
/// If it is not a member.
pub(crate) fn waits_for(cluster: &Cluster, view: &View, name: &str) -> Result<Option<Step>, ProviderError> {
    let no_member = || {
        let summary = format!("{name} is not a member of the etcd cluster");
        ProviderError::new(Class::Conflict, summary).help("an `etcd_member` adds it before its etcd starts")
    };
    let member = find(cluster, view, name).ok_or_else(no_member)?;
    Ok(match &member.health {
        Err(reason) => Some(Step::Wait(format!("{name} is not healthy: {reason}"))),
        Ok(()) if member.is_learner => Some(Step::Wait(format!("{name} is a learner"))),
        Ok(()) => None,
    })
}

/// Returns the name in the identity of a voter.
pub(crate) fn name_of(identity: &str) -> Option<&str> {
    identity.strip_prefix("voter/")
}

fn find<'a>(cluster: &Cluster, view: &'a View, name: &str) -> Option<&'a Member> {
    let peer_url = cluster.config.members.get(name).map(|urls| urls.peer.as_str()).unwrap_or_default();
    view.members.find(name, peer_url)
}

fn observed(cluster: &Cluster, members: &Members, name: &str, member: &Member) -> Attributes {
    let status = match (&member.health, member.is_learner) {
        (Err(_), _) => NOT_HEALTHY,
        (Ok(()), true) => LEARNER,
        (Ok(()), false) => VOTER,
    };
    let mut observed = attributes([("name", name.into()), (STATUS, status.into())]);
    if is_first(cluster, name) {
        observed.insert(UNKNOWN_MEMBERS.to_owned(), Value::List(unknown_members(cluster, members)));
    }
    observed
}

fn is_first(cluster: &Cluster, name: &str) -> bool {
    cluster.config.members.keys().next().is_some_and(|first| first == name)
}

/// Returns the members that neither the configuration nor the state has.
fn unknown_members(cluster: &Cluster, Members(members): &Members) -> Vec<Value> {
    let recorded = cluster.recorded().members;
    let is_known = |member: &&Member| {
        cluster.config.members.contains_key(&member.name)
            || recorded.contains(&member.name)
            || cluster.config.members.values().any(|urls| urls.peer == member.peer_url)
    };
    let unknown = members.iter().filter(|member| !is_known(member));
    let title = |member: &Member| match member.name.as_str() {
        "" => Value::from(member.peer_url.as_str()),
        name => Value::from(format!("{name} ({})", member.peer_url)),
    };
    unknown.map(title).collect()
}

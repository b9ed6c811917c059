//! One cluster: its client, its members, and the lock of their changes.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, Context, ProviderError};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::api::{Api, Listed, Status};
use crate::config::Config;
use crate::membership::{Change, Health, Member, Members, Verdict};

/// The pause between two attempts of a change that has to wait.
const POLL: Duration = Duration::from_secs(1);

/// A configured cluster.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) context: Context,
    api: OnceCell<Api>,
    /// Is held during a change of the members, so that there are never two at once.
    changing: tokio::sync::Mutex<()>,
    /// What the state records, as far as this run has read it.
    pub(crate) recorded: Mutex<Recorded>,
}

/// The records of a cluster that a run has read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// The names of the members.
    pub(crate) members: BTreeSet<String>,
    /// Whether a member is recorded that votes, so that the cluster has formed.
    pub(crate) has_formed: bool,
}

/// The cluster as it answers.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) members: Members,
    /// The client URL of a member that answers, if possible one that votes.
    pub(crate) url: String,
}

impl Cluster {
    pub(crate) fn new(config: Config, context: Context) -> Self {
        Self {
            config,
            context,
            api: OnceCell::new(),
            changing: tokio::sync::Mutex::default(),
            recorded: Mutex::default(),
        }
    }

    /// Returns the client. The certificate is issued at the first use.
    ///
    /// # Errors
    /// If the certificate cannot be issued. The class is [`Class::Unreachable`] if its authority does not exist yet.
    pub(crate) async fn api(&self) -> Result<&Api, ProviderError> {
        let connect = || async {
            let certificate = match &self.config.client {
                Some(client) => Some(self.context.client_certificates.issue(client).await?),
                None => None,
            };
            Api::new(certificate.as_ref(), self.config.certificate_authority.as_deref())
        };
        self.api.get_or_try_init(connect).await
    }

    /// Returns a copy of what the state records.
    pub(crate) fn recorded(&self) -> Recorded {
        self.recorded.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Reads the members. Returns the reasons of all members if none of them answers.
    ///
    /// # Errors
    /// If this run cannot log in, or if a member answers without being one of etcd.
    pub(crate) async fn view(&self) -> Result<Result<View, String>, ProviderError> {
        let api = match self.api().await {
            Ok(api) => api,
            // Without the authority there cannot be a cluster that trusts it.
            Err(error) if error.class == Class::Unreachable => return Ok(Err(error.summary)),
            Err(error) => return Err(error),
        };
        let lists = self.config.members.iter().map(|(name, urls)| async move {
            // Without a leader, a member confirms nothing until the time of the request is over.
            let has_leader = api.status(&urls.client).await.is_ok_and(|status| status.leader != 0);
            let confirmed = if has_leader { api.members(&urls.client, true).await.ok() } else { None };
            let list = match confirmed {
                Some(list) => (true, Ok(list)),
                None => (false, api.members(&urls.client, false).await),
            };
            (name, &urls.client, list)
        });
        let lists = join_all(lists).await;
        let reasons =
            lists.iter().filter_map(|(name, _, (_, list))| Some(format!("{name}: {}", list.as_ref().err()?.reason())));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        let known = |wanted: bool| {
            let found = lists.iter().find(|(_, _, (confirmed, list))| *confirmed == wanted && list.is_ok());
            found.and_then(|(_, url, (_, list))| Some(((*url).clone(), list.as_ref().ok()?)))
        };
        let Some((answering, list)) = known(true).or_else(|| known(false)) else { return Ok(Err(reasons)) };
        let members = join_all(list.iter().map(|listed| self.member(api, listed))).await;
        let healthy = members.iter().find(|(member, _)| !member.is_learner && member.health.is_ok());
        let url = healthy.and_then(|(_, url)| url.clone()).unwrap_or(answering);
        Ok(Ok(View { members: Members(members.into_iter().map(|(member, _)| member).collect()), url }))
    }

    /// Returns a listed member with its health and its client URL.
    async fn member(&self, api: &Api, listed: &Listed) -> (Member, Option<String>) {
        let peer_url = listed.peer_urls.first().cloned().unwrap_or_default();
        let by_name = self.config.members.get(&listed.name);
        let configured = by_name.or_else(|| self.config.members.values().find(|urls| urls.peer == peer_url));
        let url = configured.map(|urls| urls.client.clone()).or_else(|| listed.client_urls.first().cloned());
        let health = match &url {
            Some(url) => health(api, url, listed.id).await,
            None => Err("not started".to_owned()),
        };
        let member =
            Member { id: listed.id, name: listed.name.clone(), peer_url, is_learner: listed.is_learner, health };
        (member, url)
    }

    /// Makes a change of the members as soon as it is permitted. `change` returns the change that is needed now, or `None` if none is.
    ///
    /// Returns the view in which no change is needed.
    ///
    /// # Errors
    /// If the change is refused, or not possible until `deadline`.
    pub(crate) async fn change(
        &self,
        address: &Address,
        deadline: Instant,
        change: impl Fn(&View) -> Result<Option<Step>, ProviderError>,
    ) -> Result<View, ProviderError> {
        loop {
            let waits = match self.try_change(&change).await? {
                Attempt::Complete(view) => return Ok(view),
                Attempt::Changed => continue,
                Attempt::Waits(reason) => reason,
            };
            if Instant::now() + POLL >= deadline {
                let summary = format!("{address} did not complete in time: {waits}");
                return Err(ProviderError::new(Class::Timeout, summary));
            }
            self.context.progress.report(address, format!("waits: {waits}"));
            sleep(POLL).await;
        }
    }

    async fn try_change(
        &self,
        change: impl Fn(&View) -> Result<Option<Step>, ProviderError>,
    ) -> Result<Attempt, ProviderError> {
        let _one = self.changing.lock().await;
        let view = match self.view().await? {
            Ok(view) => view,
            Err(reasons) => return Ok(Attempt::Waits(format!("no member of the cluster answers: {reasons}"))),
        };
        let Some(step) = change(&view)? else { return Ok(Attempt::Complete(view)) };
        if let Step::Wait(reason) = step {
            return Ok(Attempt::Waits(reason));
        }
        let (api, url) = (self.api().await?, &view.url);
        let verdict = step.change().map_or(Verdict::Permitted, |change| view.members.verdict(change));
        match verdict {
            Verdict::Permitted => {}
            Verdict::Wait(reason) => return Ok(Attempt::Waits(reason)),
            Verdict::Refused(reason) => return Err(refused(&reason)),
        }
        let made = match &step {
            Step::Add(peer_url) => api.add(url, peer_url).await,
            Step::Promote(id) => api.promote(url, *id).await,
            Step::Remove(id) => api.remove(url, *id).await,
            Step::Move(id, peer_url) => api.update(url, *id, peer_url).await,
            Step::Wait(_) => Ok(()),
        };
        match made {
            Ok(()) => Ok(Attempt::Changed),
            Err(failure) if failure.is_temporary() => Ok(Attempt::Waits(failure.reason().to_owned())),
            Err(failure) => Err(failure.error("change the members of the cluster")),
        }
    }
}

/// The next step towards the wanted members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Add a learner with this peer URL.
    Add(String),
    Promote(u64),
    Remove(u64),
    /// Change the peer URL of a member.
    Move(u64, String),
    /// Wait, for this reason.
    Wait(String),
}

impl Step {
    /// Returns the change that the quorum decides about.
    fn change(&self) -> Option<Change> {
        match self {
            Self::Add(_) => Some(Change::Add),
            Self::Promote(id) => Some(Change::Promote(*id)),
            Self::Remove(id) => Some(Change::Remove(*id)),
            Self::Move(..) | Self::Wait(_) => None,
        }
    }
}

/// The result of one attempt of a change.
enum Attempt {
    /// No change is needed.
    Complete(View),
    Changed,
    Waits(String),
}

/// Returns the error of a change that is not permitted.
pub(crate) fn refused(reason: &str) -> ProviderError {
    ProviderError::new(Class::Conflict, format!("refused, to keep the quorum of the etcd cluster: {reason}"))
        .help("repair the members that are not healthy, or change fewer members at once")
}

async fn health(api: &Api, url: &str, id: u64) -> Health {
    let status = api.status(url).await.map_err(|failure| failure.reason().to_owned())?;
    match status {
        Status { header, .. } if header.member_id != id => Err("another member answers at its client URL".to_owned()),
        Status { leader: 0, .. } => Err("it has no leader".to_owned()),
        _ => Ok(()),
    }
}

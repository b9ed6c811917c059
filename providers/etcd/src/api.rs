//! The JSON gateway of etcd: requests to one member.

use std::time::Duration;

use moorfast_engine::provider::{Class, ClientCertificate, ProviderError, http_client, read_body, root_cause};
use reqwest::{Client, Identity, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value as Json, json};

/// How long a member may take for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a member may take for an answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a snapshot may take.
const SNAPSHOT: Duration = Duration::from_secs(3600);
/// The maximum size of an answer, and of a part of a snapshot.
const SIZE: usize = 1 << 20;

/// Parts of the reasons with which etcd refuses a change for now: a learner has not received all data, members have not been connected for some seconds.
const TEMPORARY: [&str; 5] =
    ["in sync with leader", "unhealthy cluster", "leader changed", "request timed out", "no leader"];

/// A client of the members.
pub(crate) struct Api {
    client: Client,
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no answer.
    NoAnswer(String),
    /// The member refused the request.
    Refused(String),
}

impl Failure {
    /// Returns the reason.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NoAnswer(reason) | Self::Refused(reason) => reason,
        }
    }

    /// Returns the error of the action `doing`.
    pub(crate) fn error(&self, doing: &str) -> ProviderError {
        let class = match self {
            Self::NoAnswer(_) => Class::Unreachable,
            Self::Refused(_) => Class::Failed,
        };
        ProviderError::new(class, format!("cannot {doing}: {}", self.reason()))
    }

    /// Whether the same change of the members may succeed a little later.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::NoAnswer(_)) || TEMPORARY.iter().any(|text| self.reason().contains(text))
    }
}

/// A member as the list of members has it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listed {
    #[serde(rename = "ID", deserialize_with = "number")]
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, rename = "peerURLs")]
    pub(crate) peer_urls: Vec<String>,
    #[serde(default, rename = "clientURLs")]
    pub(crate) client_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    pub(crate) is_learner: bool,
}

/// What a member says about itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) header: Header,
    /// The ID of the leader, 0 if there is none.
    #[serde(default, deserialize_with = "number")]
    pub(crate) leader: u64,
    /// The version of etcd: `3.6.4`.
    #[serde(default)]
    pub(crate) version: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Header {
    #[serde(default, deserialize_with = "number")]
    pub(crate) member_id: u64,
}

#[derive(Deserialize)]
struct ListOfMembers {
    members: Vec<Listed>,
}

/// Reads a number of 64 bits, which JSON has as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl Api {
    /// Returns a client that logs in with `certificate` and trusts the authorities in `authority` (PEM).
    ///
    /// # Errors
    /// If a certificate cannot be used.
    pub(crate) fn new(certificate: Option<&ClientCertificate>, authority: Option<&str>) -> Result<Self, ProviderError> {
        let unusable = |reason: String| ProviderError::new(Class::Invalid, format!("cannot connect to etcd: {reason}"));
        let authority = authority.or(certificate.map(|certificate| certificate.authority.as_str()));
        let mut builder = http_client(SNAPSHOT, authority).map_err(unusable)?.connect_timeout(CONNECT);
        if let Some(ClientCertificate { certificate, private_key, .. }) = certificate {
            let pem = format!("{certificate}{}", private_key.as_str());
            let identity = Identity::from_pem(pem.as_bytes());
            let identity = identity.map_err(|_| unusable("the client certificate cannot be used".to_owned()))?;
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(|error| unusable(root_cause(&error)))?;
        Ok(Self { client })
    }

    /// Returns the status of a member.
    pub(crate) async fn status(&self, url: &str) -> Result<Status, Failure> {
        self.ask(url, "maintenance/status", json!({})).await
    }

    /// Returns the members that a member knows. If `confirmed`, the cluster confirms the list, which needs a quorum.
    pub(crate) async fn members(&self, url: &str, confirmed: bool) -> Result<Vec<Listed>, Failure> {
        let list: ListOfMembers = self.ask(url, "cluster/member/list", json!({ "linearizable": confirmed })).await?;
        // A cluster has at least the member that answers.
        if list.members.is_empty() { Err(other_answer()) } else { Ok(list.members) }
    }

    /// Adds a learner.
    pub(crate) async fn add(&self, url: &str, peer_url: &str) -> Result<(), Failure> {
        let learner = json!({ "peerURLs": [peer_url], "isLearner": true });
        self.ask::<Json>(url, "cluster/member/add", learner).await.map(drop)
    }

    /// Lets a learner vote.
    pub(crate) async fn promote(&self, url: &str, id: u64) -> Result<(), Failure> {
        self.ask::<Json>(url, "cluster/member/promote", json!({ "ID": id.to_string() })).await.map(drop)
    }

    /// Removes a member.
    pub(crate) async fn remove(&self, url: &str, id: u64) -> Result<(), Failure> {
        self.ask::<Json>(url, "cluster/member/remove", json!({ "ID": id.to_string() })).await.map(drop)
    }

    /// Changes the peer URL of a member.
    pub(crate) async fn update(&self, url: &str, id: u64, peer_url: &str) -> Result<(), Failure> {
        let change = json!({ "ID": id.to_string(), "peerURLs": [peer_url] });
        self.ask::<Json>(url, "cluster/member/update", change).await.map(drop)
    }

    /// Reads a snapshot of the data of a member, and passes its parts to `write`.
    pub(crate) async fn snapshot(
        &self,
        url: &str,
        mut write: impl FnMut(&Json) -> Result<(), ProviderError>,
    ) -> Result<(), ProviderError> {
        let failed = |reason: &str| Failure::Refused(reason.to_owned()).error("read the snapshot");
        let response = self.send(url, "maintenance/snapshot", &json!({}), SNAPSHOT).await;
        let mut response = response.map_err(|failure| failure.error("read the snapshot"))?;
        let mut open = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| failed(&root_cause(&error)))?;
            let is_end = chunk.is_none();
            open.extend_from_slice(&chunk.unwrap_or_default());
            // Each line is one part.
            let end =
                if is_end { open.len() } else { open.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
            for line in open[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let part: Json = serde_json::from_slice(line).map_err(|_| failed("a part of it is damaged"))?;
                write(&part)?;
            }
            open.drain(..end);
            if is_end {
                return Ok(());
            }
            if open.len() > SIZE {
                return Err(failed("a part of it is too large"));
            }
        }
    }

    async fn ask<T: DeserializeOwned>(&self, url: &str, method: &str, body: Json) -> Result<T, Failure> {
        let response = self.send(url, method, &body, ANSWER).await?;
        let answer = read_body(response, SIZE).await.map_err(|error| Failure::NoAnswer(root_cause(&error)))?;
        if answer.is_cut {
            return Err(Failure::NoAnswer("its answer is too large".to_owned()));
        }
        decoded(&answer.bytes)
    }

    async fn send(&self, url: &str, method: &str, body: &Json, limit: Duration) -> Result<Response, Failure> {
        let request = self.client.post(format!("{url}/v3/{method}")).timeout(limit).body(body.to_string());
        let response = request.send().await.map_err(|error| Failure::NoAnswer(root_cause(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let answer = read_body(response, SIZE).await.ok();
        let message = answer.and_then(|answer| serde_json::from_slice::<Json>(&answer.bytes).ok());
        let message = message.as_ref().and_then(|answer| answer["message"].as_str().or(answer["error"].as_str()));
        Err(match message {
            Some(message) => Failure::Refused(message.chars().take(200).collect()),
            None => Failure::NoAnswer(format!("its answer is not that of etcd: HTTP {}", status.as_u16())),
        })
    }
}

/// Decodes an answer. Each answer of etcd has a header, which the answer of a gateway or a login page before it has not.
fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let answer: Json = serde_json::from_slice(bytes).map_err(|_| other_answer())?;
    match answer["header"].is_object() {
        true => serde_json::from_value(answer).map_err(|_| other_answer()),
        false => Err(other_answer()),
    }
}

fn other_answer() -> Failure {
    Failure::NoAnswer("its answer is not that of etcd".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_another_server_is_no_list_of_members() {
        for answer in [
            r#"{"kind":"Banana"}"#,
            r#"{"members":[]}"#,
            r#"{"header":{}}"#,
            r#"{"header":"x","members":[]}"#,
            "{}",
            "null",
            "<html>",
            "",
        ] {
            let list = decoded::<ListOfMembers>(answer.as_bytes());
            assert!(matches!(list, Err(Failure::NoAnswer(_))), "{answer}");
        }
        let list = decoded::<ListOfMembers>(br#"{"header":{"member_id":"1"},"members":[{"ID":"1","name":"a"}]}"#);
        assert_eq!(list.map(|list| list.members.len()), Ok(1));
    }

    #[test]
    fn a_change_is_not_believed_without_the_header_of_etcd() {
        assert_eq!(decoded::<Json>(b"{}"), Err(other_answer()));
        assert!(decoded::<Json>(br#"{"header":{"member_id":"1"}}"#).is_ok());
    }
}

//! The configuration `[providers.etcd]`: the members of the cluster, and how to log in.

use std::collections::BTreeMap;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, ClientIdentity, ProviderError};

/// Returns the schema of `[providers.etcd]`.
pub(crate) fn schema() -> Schema {
    let member = vec![
        Attribute::required("peer_url", Kind::String, "URL for the other members: `https://10.0.0.1:2380`."),
        Attribute::required(
            "client_url",
            Kind::String,
            "URL for clients, as this machine reaches it: `https://10.0.0.1:2379`.",
        ),
    ];
    Schema::new(
        "An etcd cluster, through the JSON gateway of its members. Tested with etcd 3.6. With client certificates, the gateway logs in to its own member with the \
         server certificate, so this must have the usages `server` and `client`.",
        [
            Attribute::required(
                "members",
                Kind::map(Kind::Object(member)),
                "The members of the cluster, by their names.",
            ),
            ClientIdentity::attribute(),
            Attribute::optional(
                "certificate_authority",
                Kind::String,
                "CA certificate of the members as PEM text. Default: the certificate of the authority of `client_certificate`, without it those of the system.",
            ),
        ],
    )
}

/// The configuration of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The members by their names.
    pub(crate) members: BTreeMap<String, Urls>,
    pub(crate) client: Option<ClientIdentity>,
    pub(crate) certificate_authority: Option<String>,
}

/// The URLs of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Urls {
    pub(crate) peer: String,
    pub(crate) client: String,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If it is not known when planning, or a URL is invalid.
    pub(crate) fn new(attributes: &Attributes) -> Result<Self, ProviderError> {
        let invalid = |summary: String| ProviderError::new(Class::Invalid, summary);
        if let Some((name, _)) = attributes.iter().find(|(_, value)| value.is_unknown()) {
            let summary =
                format!("`{name}` of the provider `etcd` is not known when planning: it comes from a resource");
            return Err(invalid(summary).help("the configuration of a provider cannot come from resources"));
        }
        let mut members = BTreeMap::new();
        for (name, member) in attributes.get("members").and_then(Value::as_map).into_iter().flatten() {
            let url = |attribute: &str| {
                let url = member.as_map().and_then(|member| member.text(attribute)).unwrap_or_default();
                let url = url.trim_end_matches('/');
                match reqwest::Url::parse(url) {
                    Ok(parsed) if ["http", "https"].contains(&parsed.scheme()) && !url.contains([',', '=']) => {
                        Ok(url.to_owned())
                    }
                    _ => Err(invalid(format!(
                        "`{attribute}` of the member `{name}` is not a URL of http or https: `{url}`"
                    ))),
                }
            };
            if name.is_empty() || name.contains([',', '=']) {
                return Err(invalid(format!("`{name}` is not a valid name of a member")));
            }
            members.insert(name.clone(), Urls { peer: url("peer_url")?, client: url("client_url")? });
        }
        Ok(Self {
            members,
            client: ClientIdentity::of(attributes),
            certificate_authority: attributes.text("certificate_authority").map(str::to_owned),
        })
    }

    /// Returns the URLs of a member.
    ///
    /// # Errors
    /// If the configuration does not have the member.
    pub(crate) fn member(&self, name: &str) -> Result<&Urls, ProviderError> {
        let unknown = || {
            let summary = format!("`members` of the provider `etcd` does not have the member `{name}`");
            ProviderError::new(Class::Invalid, summary).attribute("name")
        };
        self.members.get(name).ok_or_else(unknown)
    }

    /// Returns the flag `--initial-cluster` for a new cluster.
    pub(crate) fn initial_cluster(&self) -> String {
        initial_cluster(self.members.iter().map(|(name, urls)| (name.as_str(), urls.peer.as_str())))
    }
}

/// Returns the flag `--initial-cluster` for these members with their peer URLs.
pub(crate) fn initial_cluster<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut members: Vec<_> = members.into_iter().map(|(name, peer)| format!("{name}={peer}")).collect();
    members.sort_unstable();
    members.join(",")
}

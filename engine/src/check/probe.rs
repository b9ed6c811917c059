//! The probes of checks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::answer::{Answer, about};
use super::arguments::{is_sensitive, period, shown, text};
use super::http::HttpProbe;
use super::origin::Origin;
use super::{When, dns};
use crate::manifest::ProbeKind;
use crate::model::{Attributes, Value};
use crate::provider::{Destination, ProbeError, is_host};

/// The pause before the first retry. It doubles with each retry, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The port of DNS (RFC 1035).
const DNS_PORT: u16 = 53;

/// A probe whose arguments are known and valid.
pub(super) struct Probe {
    retry_for: Duration,
    request: Request,
}

/// What a probe sends.
enum Request {
    Http(Box<HttpProbe>),
    Tcp { to: Destination, shown: String, limit: Duration },
    Dns { name: String, server: Option<Destination>, expect: Option<ExpectedAddresses>, shown: String, limit: Duration },
    Ping { address: String, shown: String, limit: Duration },
}

impl Probe {
    /// Returns the probe with these arguments, which conform to the schema of the kind.
    ///
    /// # Errors
    /// The attribute that is not valid, and why.
    pub fn new(kind: ProbeKind, arguments: Attributes) -> Result<Self, (String, String)> {
        let retry_for = period(&arguments, "retry_for");
        let limit = period(&arguments, "timeout");
        let address = |name: &str, port| {
            let written = text(&arguments, name).unwrap_or_default();
            Destination::parse(written, port).map_err(|message| (name.to_owned(), message))
        };
        let host = |name: &str| {
            let written = text(&arguments, name).filter(|written| is_host(written)).map(str::to_owned);
            written.ok_or_else(|| (name.to_owned(), "expected a name or an address, without a port".to_owned()))
        };
        let shown = |name: &str| shown(&arguments, name).to_owned();
        let request = match kind {
            ProbeKind::Http => Request::Http(Box::new(HttpProbe::new(arguments)?)),
            ProbeKind::Tcp => Request::Tcp { to: address("address", None)?, shown: shown("address"), limit },
            ProbeKind::Ping => Request::Ping { address: host("address")?, shown: shown("address"), limit },
            ProbeKind::Dns => {
                let has_server = text(&arguments, "server").is_some();
                Request::Dns {
                    name: host("name")?,
                    server: has_server.then(|| address("server", Some(DNS_PORT))).transpose()?,
                    expect: ExpectedAddresses::new(&arguments)?,
                    shown: shown("name"),
                    limit,
                }
            }
        };
        Ok(Self { retry_for, request })
    }

    /// Sends the probe until the answer is as expected or, after an apply, `retry_for` has passed.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, origin: &Origin<'_>, when: When) -> Result<Answer, ProbeError> {
        let retry_for = if when == When::Applied { self.retry_for } else { Duration::ZERO };
        let until = Instant::now() + retry_for;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.send_once(origin).await;
            let is_expected = answer.as_ref().is_ok_and(|answer| answer.violations.is_empty());
            if is_expected || Instant::now() + pause > until {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send_once(&self, origin: &Origin<'_>) -> Result<Answer, ProbeError> {
        match &self.request {
            Request::Http(http) => http.send(origin).await,
            Request::Tcp { to, shown, limit } => {
                let connected = origin.connect(to, *limit).await;
                connected.map(|_| Answer::success()).map_err(|error| about(error, &format!("no connection to {shown}")))
            }
            Request::Ping { address, shown, limit } => {
                let answered = origin.ping(address, *limit).await;
                answered.map(|()| Answer::success()).map_err(|error| about(error, &format!("{shown} does not answer")))
            }
            Request::Dns { name, server, expect, shown, limit } => {
                let found = match server {
                    Some(server) => dns::look_up(origin, server, name, *limit).await,
                    None => origin.resolve(name, *limit).await,
                };
                let found: BTreeSet<_> =
                    found.map_err(|error| about(error, &format!("no address of {shown}")))?.into_iter().collect();
                Ok(resolved(shown, &found, expect.as_ref()))
            }
        }
    }
}

/// The addresses that a name must have.
struct ExpectedAddresses {
    addresses: BTreeSet<IpAddr>,
    /// The addresses as messages may show them.
    shown: String,
}

impl ExpectedAddresses {
    /// Returns the addresses in `expect`, if it is set.
    fn new(arguments: &Attributes) -> Result<Option<Self>, (String, String)> {
        let Some(written) = arguments.get("expect").and_then(Value::as_list) else { return Ok(None) };
        let hidden = is_sensitive(arguments, "expect");
        let address = |item: &Value| {
            let text = item.as_str().unwrap_or_default();
            let shown = if hidden { "(sensitive)" } else { text };
            text.parse().map_err(|_| ("expect".to_owned(), format!("`{shown}` is not an IP address")))
        };
        let addresses = written.iter().map(address).collect::<Result<BTreeSet<_>, _>>()?;
        let shown = if hidden { "(sensitive)".to_owned() } else { listed(&addresses) };
        Ok(Some(Self { addresses, shown }))
    }
}

/// Returns the answer of a DNS probe that found these addresses.
fn resolved(name: &str, found: &BTreeSet<IpAddr>, expect: Option<&ExpectedAddresses>) -> Answer {
    let missed = expect.filter(|expect| expect.addresses != *found);
    let violation =
        |expect: &ExpectedAddresses| format!("{name} has the addresses {}, expected {}", listed(found), expect.shown);
    let addresses = found.iter().map(|address| Value::from(address.to_string())).collect();
    Answer {
        value: Value::Map([("addresses".to_owned(), Value::List(addresses))].into()),
        violations: missed.map(violation).into_iter().collect(),
    }
}

fn listed(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::conform;

    fn probe(kind: ProbeKind, arguments: serde_json::Value) -> Result<Probe, (String, String)> {
        let arguments: Attributes =
            arguments.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        Probe::new(kind, conform(kind.schema(), arguments).unwrap())
    }

    #[tokio::test]
    async fn a_tcp_probe_connects() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = probe(ProbeKind::Tcp, serde_json::json!({"address": address})).unwrap();
        assert!(open.send(&Origin::ThisMachine, When::Planned).await.is_ok());
        drop(listener);
        let Err(ProbeError::NoAnswer(reason)) = open.send(&Origin::ThisMachine, When::Planned).await else { panic!() };
        assert!(reason.starts_with(&format!("no connection to {address}: Connection refused")), "{reason}");
    }

    #[tokio::test]
    async fn a_dns_probe_compares_the_addresses() {
        let send = async |expect: serde_json::Value| {
            let probe = probe(ProbeKind::Dns, serde_json::json!({"name": "127.0.0.1", "expect": expect})).unwrap();
            probe.send(&Origin::ThisMachine, When::Planned).await.unwrap().violations
        };
        assert_eq!(send(serde_json::json!(["127.0.0.1"])).await, Vec::<String>::new());
        assert_eq!(
            send(serde_json::json!(["10.0.0.1", "10.0.0.2"])).await,
            ["127.0.0.1 has the addresses 127.0.0.1, expected 10.0.0.1, 10.0.0.2"]
        );
    }

    #[tokio::test]
    async fn a_sensitive_argument_is_not_shown() {
        let text = |text: &str| Value::from(text).sensitive();
        let arguments = Attributes::from([
            ("name".to_owned(), text("127.0.0.1")),
            ("expect".to_owned(), Value::List(vec![text("192.0.2.77")])),
        ]);
        let probe = Probe::new(ProbeKind::Dns, conform(ProbeKind::Dns.schema(), arguments).unwrap()).unwrap();
        let violations = probe.send(&Origin::ThisMachine, When::Planned).await.unwrap().violations;
        assert_eq!(violations, ["(sensitive) has the addresses 127.0.0.1, expected (sensitive)"]);

        let wrong = Attributes::from([
            ("name".to_owned(), text("127.0.0.1")),
            ("expect".to_owned(), Value::List(vec![text("s3cr3t")])),
        ]);
        let message = Probe::new(ProbeKind::Dns, conform(ProbeKind::Dns.schema(), wrong).unwrap()).err().unwrap().1;
        assert_eq!(message, "`(sensitive)` is not an IP address");
    }

    #[test]
    fn invalid_arguments_name_the_attribute() {
        for (kind, arguments, attribute) in [
            (ProbeKind::Tcp, serde_json::json!({"address": "10.0.0.1"}), "address"),
            (ProbeKind::Dns, serde_json::json!({"name": "a b"}), "name"),
            (ProbeKind::Dns, serde_json::json!({"name": "a", "server": "b:x"}), "server"),
            (ProbeKind::Dns, serde_json::json!({"name": "a", "expect": ["b"]}), "expect"),
            (ProbeKind::Ping, serde_json::json!({"address": "-f"}), "address"),
            (ProbeKind::Ping, serde_json::json!({"address": "10.0.0.1:22"}), "address"),
            (ProbeKind::Dns, serde_json::json!({"name": "a:53"}), "name"),
            (ProbeKind::Http, serde_json::json!({"url": "http://a", "expect_status": 1}), "expect_status"),
        ] {
            assert_eq!(
                probe(kind, arguments.clone()).err().map(|(name, _)| name).as_deref(),
                Some(attribute),
                "{arguments}"
            );
        }
    }
}

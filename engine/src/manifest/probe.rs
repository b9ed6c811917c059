//! The probe of a check: `http`, `tcp`, `dns` or `ping`.

use std::sync::LazyLock;

use super::HTTP;
use crate::expression::Expr;
use crate::model::{Attribute, Kind, Schema};

/// The probe of a check, with its unevaluated arguments.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What it sends.
    pub kind: ProbeKind,
    /// Its arguments.
    pub arguments: Expr,
}

/// What a probe sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// An HTTP request.
    Http,
    /// A TCP connection.
    Tcp,
    /// A DNS query.
    Dns,
    /// An ICMP echo request.
    Ping,
}

impl ProbeKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Http, Self::Tcp, Self::Dns, Self::Ping];

    /// Returns the name of the kind in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Dns => "dns",
            Self::Ping => "ping",
        }
    }

    /// Returns the schema of the arguments.
    pub fn schema(self) -> &'static Schema {
        match self {
            Self::Http => &HTTP,
            Self::Tcp => &TCP,
            Self::Dns => &DNS,
            Self::Ping => &PING,
        }
    }

    /// Whether only a node can send it.
    pub fn needs_node(self) -> bool {
        self == Self::Ping
    }

    /// Whether there is an answer that assertions can test as `self`.
    pub fn has_answer(self) -> bool {
        matches!(self, Self::Http | Self::Dns)
    }
}

static TCP: LazyLock<Schema> = LazyLock::new(|| {
    let address = Attribute::required("address", Kind::String, "Address and port, such as `10.0.0.1:2379`.");
    Schema::new("A TCP connection that must be accepted.", [address].into_iter().chain(times()))
});

static DNS: LazyLock<Schema> = LazyLock::new(|| {
    let attributes = [
        Attribute::required("name", Kind::String, "Name to look up, such as `kubernetes.default.svc.cluster.local`."),
        Attribute::optional(
            "server",
            Kind::String,
            "Address of the DNS server, with a port if it is not 53. It is asked over TCP. Default: the resolver of the machine that asks.",
        ),
        Attribute::optional("expect", Kind::list(Kind::String), "Addresses that the answer must have, in any order."),
    ];
    Schema::new(
        "A DNS name that must have an address. In `assert`, `self.addresses` is the list of its addresses.",
        attributes.into_iter().chain(times()),
    )
});

static PING: LazyLock<Schema> = LazyLock::new(|| {
    let address = Attribute::required("address", Kind::String, "Address or name.");
    Schema::new("An ICMP echo request that must be answered.", [address].into_iter().chain(times()))
});

/// Returns the attributes for the limits of a probe.
fn times() -> [Attribute; 2] {
    [
        Attribute::optional("timeout", Kind::Duration, "Timeout of one attempt.").or("10s"),
        Attribute::optional("retry_for", Kind::Duration, "Time to retry after an apply until the probe succeeds.")
            .or("0s"),
    ]
}

//! Functions on IP addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Arguments, Body, CallError, Family, Function, plain_error, quoting_error};
use crate::model::Value;

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Network,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function(
            "cidrhost",
            &["prefix", "number"],
            "The address with this host number in the network. A negative number counts from the end.",
            |a| {
                let (network, number) = (network(a)?, a.integer(1)?);
                let size = host_bits(&network);
                let host = wrap(number, size)
                    .ok_or_else(|| quoting_error(format!("{network} has no host number {number}")))?;
                let address = address(&network, bits(network.network()) | host);
                address.map(|address| Value::from(address.to_string())).ok_or_else(|| no_room(&network))
            },
        ),
        function("cidrnetmask", &["prefix"], "The netmask of the IPv4 network.", |a| match network(a)? {
            IpNet::V4(network) => Ok(Value::from(network.netmask().to_string())),
            IpNet::V6(_) => Err(plain_error("only IPv4 networks have a netmask")),
        }),
        function(
            "cidrsubnet",
            &["prefix", "newbits", "number"],
            "The subnet with this number and a prefix that is `newbits` longer.",
            |a| {
                let network = network(a)?;
                Ok(Value::from(subnet(&network, a.integer(1)?, a.integer(2)?)?.to_string()))
            },
        ),
        function(
            "cidrsubnets",
            &["prefix", "newbits..."],
            "Consecutive subnets, each with a prefix that is `newbits` longer.",
            cidrsubnets,
        ),
    ]
}

fn network(a: &Arguments) -> Result<IpNet, CallError> {
    let text = a.text(0)?;
    let network: IpNet =
        text.parse().map_err(|_| quoting_error(format!("`{text}` is not a network such as 10.0.0.0/16")))?;
    Ok(network.trunc())
}

fn host_bits(network: &IpNet) -> u32 {
    u32::from(network.max_prefix_len() - network.prefix_len())
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Returns the address with these bits in the network's family, or `None` if they do not fit.
fn address(network: &IpNet, bits: u128) -> Option<IpAddr> {
    match network {
        IpNet::V4(_) => Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).ok()?))),
        IpNet::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(bits))),
    }
}

/// Returns the network with a prefix of `length` bits that starts at `start`, inside `network`.
fn inside(network: &IpNet, start: u128, length: u32) -> Result<IpNet, CallError> {
    let address = address(network, start).ok_or_else(|| no_room(network))?;
    let length = u8::try_from(length).map_err(|_| no_room(network))?;
    let inner = IpNet::new(address, length).map_err(|error| quoting_error(error.to_string()))?;
    if network.contains(&inner) { Ok(inner) } else { Err(no_room(network)) }
}

fn no_room(network: &IpNet) -> CallError {
    quoting_error(format!("{network} has no room for this network"))
}

/// Converts `number` to an unsigned number of `size` bits. A negative number counts from the end.
fn wrap(number: i128, size: u32) -> Option<u128> {
    let count = 1_u128.checked_shl(size).filter(|count| *count != 0);
    let wrapped = match (u128::try_from(number), count) {
        (Ok(number), _) => number,
        (Err(_), Some(count)) => count.checked_sub(number.unsigned_abs())?,
        (Err(_), None) => (u128::MAX - number.unsigned_abs()).checked_add(1)?,
    };
    count.is_none_or(|count| wrapped < count).then_some(wrapped)
}

fn subnet(network: &IpNet, newbits: i128, number: i128) -> Result<IpNet, CallError> {
    let newbits = u32::try_from(newbits).ok().filter(|newbits| *newbits <= host_bits(network));
    let newbits =
        newbits.ok_or_else(|| quoting_error(format!("{network} has only {} host bits", host_bits(network))))?;
    let number = wrap(number, newbits)
        .ok_or_else(|| quoting_error(format!("{newbits} additional bits have no network number {number}")))?;
    // A shift by all bits overflows. It happens only without new bits, when the number is 0.
    let offset = number.checked_shl(host_bits(network) - newbits).unwrap_or(0);
    inside(network, bits(network.network()) | offset, u32::from(network.prefix_len()) + newbits)
}

fn cidrsubnets(a: &Arguments) -> Result<Value, CallError> {
    let network = network(a)?;
    // `None` after a network that ends at the last address.
    let (mut next, mut subnets) = (Some(bits(network.network())), Vec::new());
    for at in 1..a.len() {
        let first = subnet(&network, a.integer(at)?, 0)?;
        let length = u32::from(first.prefix_len());
        let no_room = || {
            quoting_error(format!(
                "{network} has no room for another network with {} additional bits",
                length - u32::from(network.prefix_len())
            ))
        };
        let start = next.ok_or_else(no_room)?;
        let size = 1_u128.checked_shl(host_bits(&first));
        // A network starts at a multiple of its size.
        let start = match size {
            Some(size) => start.checked_next_multiple_of(size).ok_or_else(no_room)?,
            None => start,
        };
        let subnet = inside(&network, start, length).map_err(|_| no_room())?;
        next = size.and_then(|size| start.checked_add(size));
        subnets.push(Value::from(subnet.to_string()));
    }
    Ok(Value::List(subnets))
}

//! DNS queries over TCP (RFC 1035, section 4.2.2), which can begin on a node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, RCODE, TYPE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::origin::{Origin, no_answer_within};
use crate::provider::{Destination, ProbeError};

/// Asks `server` for the addresses of `name`.
///
/// # Errors
/// If the server does not answer within `limit`, or has no address of the name.
pub(super) async fn look_up(
    origin: &Origin<'_>,
    server: &Destination,
    name: &str,
    limit: Duration,
) -> Result<Vec<IpAddr>, ProbeError> {
    let mut connection = origin.connect(server, limit).await?;
    let mut stream = connection.both();
    let asked = async {
        let mut addresses = ask(&mut stream, name, TYPE::A).await?;
        addresses.extend(ask(&mut stream, name, TYPE::AAAA).await?);
        match addresses.is_empty() {
            true => Err("the DNS server knows no address of this name".to_owned()),
            false => Ok(addresses),
        }
    };
    let answered = timeout(limit, asked).await.map_err(|_| no_answer_within(limit))?;
    answered.map_err(ProbeError::NoAnswer)
}

/// Sends one question and returns the addresses in the answer.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: &str,
    kind: TYPE,
) -> Result<Vec<IpAddr>, String> {
    let query = query(name, kind)?;
    let broken = |error: std::io::Error| format!("the connection to the DNS server broke: {error}");
    let length = u16::try_from(query.len()).map_err(|_| "the name is too long".to_owned())?;
    stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let length = stream.read_u16().await.map_err(broken)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(broken)?;
    addresses(&answer)
}

fn query(name: &str, kind: TYPE) -> Result<Vec<u8>, String> {
    let invalid = |_| "it is not a DNS name".to_owned();
    let mut packet = Packet::new_query(rand::random());
    packet.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name.trim_end_matches('.')).map_err(invalid)?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(invalid)
}

/// Returns the addresses in an answer.
///
/// # Errors
/// If the answer is not one, or reports an error.
fn addresses(answer: &[u8]) -> Result<Vec<IpAddr>, String> {
    let packet = Packet::parse(answer).map_err(|error| format!("the answer is not valid DNS: {error}"))?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err("the name does not exist (NXDOMAIN)".to_owned()),
        RCODE::ServerFailure => return Err("the DNS server failed (SERVFAIL)".to_owned()),
        RCODE::Refused => return Err("the DNS server refused the query (REFUSED)".to_owned()),
        other => return Err(format!("the DNS server answered {other:?}")),
    }
    let address = |record: &simple_dns::ResourceRecord<'_>| match &record.rdata {
        RData::A(found) => Some(IpAddr::from(Ipv4Addr::from_bits(found.address))),
        RData::AAAA(found) => Some(IpAddr::from(Ipv6Addr::from_bits(found.address))),
        _ => None,
    };
    Ok(packet.answers.iter().filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    /// Answers `requests` queries over TCP, each with what `answer` adds to a reply.
    async fn server(answer: fn(&mut Packet<'_>)) -> Destination {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.unwrap();
                let mut reply = Packet::parse(&query).unwrap().into_reply();
                answer(&mut reply);
                let reply = reply.build_bytes_vec().unwrap();
                stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        });
        Destination { host: "127.0.0.1".to_owned(), port }
    }

    async fn asked(answer: fn(&mut Packet<'_>)) -> Result<Vec<IpAddr>, ProbeError> {
        let server = server(answer).await;
        look_up(&Origin::ThisMachine, &server, "web.example.org", Duration::from_secs(10)).await
    }

    fn record(data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new_unchecked("web.example.org"), CLASS::IN, 5, data)
    }

    #[tokio::test]
    async fn the_addresses_of_both_families_are_found() {
        let found = asked(|reply| {
            reply.answers.push(record(RData::CNAME(CNAME(Name::new_unchecked("a.example.org")))));
            reply.answers.push(match reply.questions[0].qtype {
                simple_dns::QTYPE::TYPE(TYPE::A) => record(RData::A(A { address: 0x0a00_0001 })),
                _ => record(RData::AAAA(AAAA { address: 1 })),
            });
        });
        assert_eq!(found.await, Ok(vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]));
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_or_has_no_address_is_no_answer() {
        let missing = asked(|reply| *reply.rcode_mut() = RCODE::NameError).await;
        assert_eq!(missing, Err(ProbeError::NoAnswer("the name does not exist (NXDOMAIN)".to_owned())));
        let empty = asked(|_| {}).await;
        assert!(
            matches!(empty, Err(ProbeError::NoAnswer(reason)) if reason == "the DNS server knows no address of this name")
        );
    }

    #[test]
    fn an_answer_that_is_not_dns_is_an_error() {
        assert!(addresses(b"HTTP/1.1 400 Bad Request").is_err());
        assert!(query(&"a".repeat(64), TYPE::A).is_err());
    }
}

//! The servers that a URL names, and opening a connection to one of them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::seq::SliceRandom;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts};

/// The limit for opening a connection to one address, if the URL has no `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(5);

/// A server as the URL names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    address: Host,
    port: u16,
    /// The name in its certificate.
    pub(super) hostname: Option<String>,
}

/// An address of a server.
#[derive(Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Returns the servers of `config` in the order in which they are tried.
///
/// # Errors
/// If the numbers of hosts, addresses and ports do not match.
pub(super) fn servers(config: &Config) -> Result<Vec<Server>, String> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err("the `url` of the backend names no host".into());
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(format!("the `url` of the backend has {} hosts and {} hostaddrs", hosts.len(), addresses.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("the `url` of the backend has {count} hosts and {} ports", ports.len()));
    }
    let mut servers: Vec<_> = (0..count)
        .filter_map(|i| {
            let address = addresses.get(i).map(|address| Host::Tcp(address.to_string()));
            let hostname = match hosts.get(i) {
                Some(Host::Tcp(name)) => Some(name.clone()),
                _ => None,
            };
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            Some(Server { address: address.or(hosts.get(i).cloned())?, port, hostname })
        })
        .collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        servers.shuffle(&mut rand::rng());
    }
    Ok(servers)
}

impl Server {
    /// Returns the addresses of the server.
    pub(super) async fn addresses(&self) -> io::Result<Vec<Address>> {
        match &self.address {
            Host::Tcp(host) => Ok(lookup_host((host.clone(), self.port)).await?.map(Address::Tcp).collect()),
            Host::Unix(folder) => Ok(vec![Address::Unix(folder.join(format!(".s.PGSQL.{}", self.port)))]),
        }
    }
}

/// Opens a connection to a host.
pub(super) async fn open_tcp(address: &SocketAddr, config: &Config) -> io::Result<TcpStream> {
    let limit = config.get_connect_timeout().copied().unwrap_or(CONNECT);
    let stream = in_time(limit, TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if let Some(limit) = config.get_tcp_user_timeout() {
        // Milliseconds, as in libpq. The parser takes the number for seconds.
        socket.set_tcp_user_timeout(Some(Duration::from_millis(limit.as_secs())))?;
    }
    if config.get_keepalives() {
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(stream)
}

/// Opens a connection to a server on this machine.
pub(super) async fn open_unix(path: &Path) -> io::Result<UnixStream> {
    in_time(CONNECT, UnixStream::connect(path)).await
}

async fn in_time<S>(limit: Duration, connect: impl Future<Output = io::Result<S>>) -> io::Result<S> {
    let too_slow = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs()));
    timeout(limit, connect).await.unwrap_or_else(|_| Err(too_slow()))
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Vec<Server>, String> {
        servers(&url.parse().unwrap())
    }

    fn server(address: &str, port: u16, hostname: Option<&str>) -> Server {
        Server { address: Host::Tcp(address.into()), port, hostname: hostname.map(str::to_owned) }
    }

    #[test]
    fn a_url_can_name_several_servers() {
        let cases = [
            ("postgresql://a/db", vec![server("a", 5432, Some("a"))]),
            ("postgresql://a:1,b:2/db", vec![server("a", 1, Some("a")), server("b", 2, Some("b"))]),
            ("postgresql:///db?host=a&host=b&port=7", vec![server("a", 7, Some("a")), server("b", 7, Some("b"))]),
            ("postgresql:///db?host=a&hostaddr=10.0.0.1", vec![server("10.0.0.1", 5432, Some("a"))]),
            ("postgresql:///db?hostaddr=10.0.0.1", vec![server("10.0.0.1", 5432, None)]),
            (
                "postgresql:///db?host=/run/postgresql",
                vec![Server { address: Host::Unix("/run/postgresql".into()), port: 5432, hostname: None }],
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(of(url), Ok(expected), "{url}");
        }
    }

    #[tokio::test]
    async fn a_connection_has_the_settings_of_the_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            "postgresql://a/db?tcp_user_timeout=7000&keepalives_idle=40&keepalives_interval=5&keepalives_retries=3";
        let stream = open_tcp(&listener.local_addr().unwrap(), &url.parse().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(40));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_url_limits_how_long_a_connection_may_take() {
        let config: Config = "postgresql://a/db?connect_timeout=2".parse().unwrap();
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // The queue of the listener has one place, so the next connection gets no answer.
        let _first = std::net::TcpStream::connect(address).unwrap();
        let error = open_tcp(&address, &config).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 2 s");
    }

    #[test]
    fn numbers_that_do_not_match_are_errors() {
        let cases = [
            ("postgresql:///db", "names no host"),
            ("postgresql:///db?host=a&host=b&hostaddr=10.0.0.1", "2 hosts and 1 hostaddrs"),
            ("postgresql://a:1,b:2/db?host=c", "3 hosts and 2 ports"),
        ];
        for (url, expected) in cases {
            let error = of(url).unwrap_err();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}

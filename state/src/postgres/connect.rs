//! The location of a state in a database, and the connection to it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::answer_limit::{AnswerLimit, LimitedStream};
use super::servers::{Address, Server, open_tcp, open_unix, servers};
use crate::bounded;
use crate::remote::RequestError;
use crate::{EnvironmentName, StateError};

/// The limits for the login and for an answer.
const LOGIN: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(15);

/// The time without traffic after which the connection is probed, if the URL does not set it.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);

/// The maximum size of everything that a server sends during the login: a certificate, a few settings, an error.
const LOGIN_ANSWERS: u64 = 1 << 20;

/// The settings of a session: commits are durable, whatever the server's default, and statements have a timeout.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = '15s'; SET lock_timeout = '10s'";

/// The location of a state in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The database as a URL without a password: `postgresql://user@host:5432/database?sslmode=require`.
    /// The password comes from `$PGPASSWORD`.
    pub url: String,
    /// The name of the state. A database can contain many states.
    #[serde(default = "default_name")]
    pub name: String,
    /// The environment. Its name is a part of the name, so that each environment has a state of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
}

fn default_name() -> String {
    "moorfast".to_owned()
}

impl Postgres {
    /// Returns the name of the state in the tables: `NAME`, or `ENVIRONMENT.NAME`.
    pub(super) fn state_name(&self) -> String {
        match &self.environment {
            Some(environment) => format!("{environment}.{}", self.name),
            None => self.name.clone(),
        }
    }

    fn config(&self) -> Result<Config, StateError> {
        let mut config: Config = self.url.parse().map_err(|error| StateError::Config(invalid_url(&error)))?;
        if config.get_password().is_some() {
            let advice = "the `url` of the backend contains a password, which everybody who reads the manifest could see; \
                remove it and set $PGPASSWORD";
            return Err(StateError::Config(advice.into()));
        }
        if let Ok(password) = std::env::var("PGPASSWORD") {
            config.password(password);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(KEEPALIVES_IDLE);
        }
        config.application_name(format!("moorfast {}", self.state_name()));
        Ok(config)
    }

    /// Returns the name of the place for messages.
    pub(super) fn place(&self) -> Result<String, StateError> {
        let config = self.config()?;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        Ok(format!("the state {} in the database {database} on {host}", self.state_name()))
    }
}

/// Returns the message about a URL that cannot be parsed. It does not quote the URL, because it may contain a password.
fn invalid_url(error: &Error) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let mut parts = reason.split('`');
    match (parts.next(), parts.next()) {
        (Some("unknown option "), Some(name)) if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
            format!("the `url` of the backend has the parameter `{name}`, which moorfast does not support")
        }
        (Some("invalid value for option "), Some(name)) => {
            format!("the `url` of the backend has an invalid value for `{name}`")
        }
        _ => "the `url` of the backend is not a URL of a PostgreSQL database; \
            its form is postgresql://user@host:5432/database"
            .to_owned(),
    }
}

/// A connection that is opened again after it broke.
pub(super) struct Connection {
    config: Config,
    tls: MakeRustlsConnect,
    current: Mutex<Option<Arc<Session>>>,
}

/// An open connection.
pub(super) struct Session {
    pub(super) client: Client,
    limit: Arc<AnswerLimit>,
}

impl Connection {
    pub(super) fn new(config: &Postgres) -> Result<Self, StateError> {
        let config = config.config()?;
        // Fails if a provider is already installed in this process, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        if config.get_ssl_mode() != SslMode::Disable {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(tls), current: Mutex::default() })
    }

    pub(super) async fn session(&self) -> Result<Arc<Session>, RequestError> {
        let mut current = self.current.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(Arc::clone(session));
        }
        // A server can accept a connection and then not answer: in its greeting, in TLS, at the login.
        let connected = timeout(LOGIN, self.connect()).await;
        let session = Arc::new(connected.unwrap_or_else(|_| Err(timed_out(LOGIN)))?);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Logs in to the first server that accepts it.
    async fn connect(&self) -> Result<Session, RequestError> {
        let mut last = RequestError::NoAnswer("the name of the host has no address".into());
        for server in servers(&self.config).map_err(RequestError::Refused)? {
            let addresses = match server.addresses().await {
                Ok(addresses) => addresses,
                Err(error) => {
                    last = RequestError::NoAnswer(error.to_string());
                    continue;
                }
            };
            for address in addresses {
                let limit = Arc::new(AnswerLimit::new(LOGIN_ANSWERS));
                match self.open(&server, &address, &limit).await {
                    Ok(client) => return Ok(Session { client, limit }),
                    Err(_) if limit.is_exceeded() => {
                        let sent = bounded::size(LOGIN_ANSWERS);
                        let answer = format!("{address} sends more than {sent} before the login is complete");
                        last = RequestError::NoAnswer(format!("{answer}; it is probably not PostgreSQL"));
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    async fn open(&self, server: &Server, address: &Address, limit: &Arc<AnswerLimit>) -> Result<Client, RequestError> {
        let refused = |error| RequestError::NoAnswer(format!("cannot connect to {address}: {error}"));
        let limit = Arc::clone(limit);
        let client = match address {
            Address::Tcp(tcp) => {
                let stream = open_tcp(tcp, &self.config).await.map_err(refused)?;
                self.log_in(server, LimitedStream { stream, limit }).await?
            }
            Address::Unix(path) => {
                let stream = open_unix(path).await.map_err(refused)?;
                self.log_in(server, LimitedStream { stream, limit }).await?
            }
        };
        client.batch_execute(SESSION).await.map_err(request_error)?;
        let read_only = match self.config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => "off",
            TargetSessionAttrs::ReadOnly => "on",
            _ => return Ok(client),
        };
        let answer = client.simple_query("SHOW transaction_read_only").await.map_err(request_error)?;
        let found = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
            _ => None,
        });
        if found == Some(read_only) {
            return Ok(client);
        }
        let missing = if read_only == "off" { "allows no writes" } else { "is not read only" };
        Err(RequestError::NoAnswer(format!("the server {address} {missing}")))
    }

    async fn log_in<S>(&self, server: &Server, stream: S) -> Result<Client, RequestError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let hostname = server.hostname.as_deref().unwrap_or_default();
        let Ok(tls) = MakeTlsConnect::<S>::make_tls_connect(&mut self.tls.clone(), hostname);
        let (client, connection) = self.config.connect_raw(stream, tls).await.map_err(request_error)?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Waits for an answer up to its limits. After a timeout the connection is dropped, because its state is unknown.
    pub(super) async fn in_time<T>(
        &self,
        session: &Session,
        answer: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        session.limit.set(bounded::DATA);
        match timeout(ANSWER, answer).await {
            Ok(Err(_)) if session.limit.is_exceeded() => {
                Err(RequestError::Refused(format!("the answer is larger than {}", bounded::size(bounded::DATA))))
            }
            Ok(answer) => answer,
            Err(_) => {
                self.current.lock().await.take();
                Err(timed_out(ANSWER))
            }
        }
    }
}

fn timed_out(limit: Duration) -> RequestError {
    RequestError::NoAnswer(format!("no answer within {} s", limit.as_secs()))
}

pub(super) fn request_error(error: Error) -> RequestError {
    let Some(server) = error.as_db_error() else {
        let text = crate::remote::error_chain(&error);
        return if error.is_closed() || std::error::Error::source(&error).is_some() {
            RequestError::NoAnswer(text)
        } else {
            RequestError::Refused(text)
        };
    };
    let text = server.message().to_owned();
    let conflicts = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
    ];
    // Errors of connections, resources, operators and the system can be temporary.
    let temporary = ["08", "53", "55", "57", "58"].iter().any(|class| server.code().code().starts_with(class));
    match server.code() {
        code if conflicts.contains(code) => RequestError::Conflict,
        _ if temporary => RequestError::NoAnswer(text),
        _ => RequestError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    /// Starts a server that serves one connection with `serve` after it read the first message. Returns the result of `serve` in a channel.
    fn server<R: Send + 'static>(serve: impl FnOnce(TcpStream) -> R + Send + 'static) -> (Connection, Receiver<R>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgresql://kim@{}/db?sslmode=disable", listener.local_addr().unwrap());
        let (send, receive) = channel();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4]).unwrap();
            send.send(serve(stream)).ok();
        });
        (Connection::new(&Postgres { url, name: "any".into(), environment: None }).unwrap(), receive)
    }

    /// Sends `start` and then zeros until the client closes the connection. Returns the number of bytes.
    fn without_end(stream: &mut TcpStream, start: &[u8]) -> u64 {
        let (zeros, mut sent, mut rest) = ([0; 1 << 16], 0, start);
        while let Ok(count) = stream.write(if rest.is_empty() { &zeros } else { rest }) {
            sent += count as u64;
            rest = &rest[count.min(rest.len())..];
        }
        sent
    }

    /// The header of a message of 2 GiB that is the answer to a query.
    const HUGE: &[u8] = b"D\x7f\xff\xff\xff";

    const AUTHENTICATED: &[u8] = b"R\0\0\0\x08\0\0\0\0";

    /// The bytes that can be on their way when a client closes the connection.
    const BUFFERS: u64 = 16 << 20;

    #[tokio::test]
    async fn a_server_that_sends_garbage_is_not_read_to_its_end() {
        // The client keeps notices until the login is complete.
        let notices = [AUTHENTICATED, &b"N\0\0\0\x05\0".repeat(1 << 20)].concat();
        for start in [HUGE.to_vec(), notices] {
            let (connection, sent) = server(move |mut stream| without_end(&mut stream, &start));
            let Err(RequestError::NoAnswer(text)) = connection.session().await.map(drop) else { panic!() };
            assert!(text.contains("sends more than 1 MiB before the login is complete"), "{text}");
            let sent = sent.recv().unwrap();
            assert!(sent < BUFFERS, "{sent}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_refused() {
        let (connection, sent) = server(|mut stream| {
            let ready: &[u8] = b"Z\0\0\0\x05I";
            stream.write_all(&[AUTHENTICATED, ready].concat()).unwrap();
            // The settings of the session, then the query.
            for answer in [[b"C\0\0\0\x08SET\0".as_slice(), ready].concat(), Vec::new()] {
                let mut header = [0; 5];
                stream.read_exact(&mut header).unwrap();
                let length = u32::from_be_bytes(header[1..].try_into().unwrap());
                stream.read_exact(&mut vec![0; length as usize - 4]).unwrap();
                stream.write_all(&answer).unwrap();
            }
            without_end(&mut stream, HUGE)
        });
        let session = connection.session().await.unwrap();
        let query = async { session.client.batch_execute("SELECT 1").await.map_err(request_error) };
        let Err(RequestError::Refused(text)) = connection.in_time(&session, query).await else { panic!() };
        assert_eq!(text, "the answer is larger than 256 MiB");
        assert!(sent.recv().unwrap() < bounded::DATA + BUFFERS);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let (accepted, at_login) = tokio::sync::oneshot::channel();
        let (connection, _end) = server(|mut stream| {
            accepted.send(()).unwrap();
            stream.read_to_end(&mut Vec::new()).ok()
        });
        let login = tokio::spawn(async move { connection.session().await.map(drop) });
        at_login.await.unwrap();
        // From here on only the clock can end the login.
        tokio::time::pause();
        let Err(RequestError::NoAnswer(text)) = login.await.unwrap() else { panic!() };
        assert_eq!(text, "no answer within 10 s");
    }
}

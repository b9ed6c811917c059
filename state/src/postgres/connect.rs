//! The location of a state in a database, and the connection to it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::remote::RequestError;
use crate::{EnvironmentName, StateError};

/// The limits for opening a connection, for the login, and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const LOGIN: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(15);

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
        // The message does not quote the URL, because it may contain a password.
        let mut config: Config = self.url.parse().map_err(|_| {
            StateError::Config(
                "the `url` of the backend is not a URL of a PostgreSQL database; \
                its form is postgresql://user@host:5432/database"
                    .into(),
            )
        })?;
        if config.get_password().is_some() {
            let advice = "the `url` of the backend contains a password, which everybody who reads the manifest could see; \
                remove it and set $PGPASSWORD";
            return Err(StateError::Config(advice.into()));
        }
        if let Ok(password) = std::env::var("PGPASSWORD") {
            config.password(password);
        }
        config.connect_timeout(CONNECT).keepalives_idle(Duration::from_secs(30));
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

/// A connection that is opened again after it broke.
pub(super) struct Connection {
    config: Config,
    current: Mutex<Option<Arc<Client>>>,
}

impl Connection {
    pub(super) fn new(config: &Postgres) -> Result<Self, StateError> {
        Ok(Self { config: config.config()?, current: Mutex::default() })
    }

    pub(super) async fn client(&self) -> Result<Arc<Client>, RequestError> {
        let mut current = self.current.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        // A server can accept a connection and then not answer: in its greeting, in TLS, at the login.
        let connected = timeout(LOGIN, self.connect()).await;
        let client = Arc::new(connected.unwrap_or_else(|_| Err(timed_out(LOGIN)))?);
        *current = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn connect(&self) -> Result<Client, RequestError> {
        if self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(tokio_postgres::NoTls).await.map_err(request_error)?;
            tokio::spawn(connection);
            return Self::prepare(client).await;
        }
        // Fails if a provider is already installed in this process, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connected = self.config.connect(MakeRustlsConnect::new(tls)).await;
        let (client, connection) = connected.map_err(request_error)?;
        tokio::spawn(connection);
        Self::prepare(client).await
    }

    async fn prepare(client: Client) -> Result<Client, RequestError> {
        client.batch_execute(SESSION).await.map_err(request_error)?;
        Ok(client)
    }

    /// Waits for an answer up to its limit. After a timeout the connection is dropped, because its state is unknown.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        match timeout(ANSWER, answer).await {
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

//! Which database, and the connection to it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StateError;
use crate::remote::Trouble;

/// How long a server may take to accept a connection, until the session is ready, and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const LOGIN: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(15);

/// For this session: a commit is on the disk when it is answered, whatever the server's default, and nothing hangs for ever.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = '15s'; SET lock_timeout = '10s'";

/// Where in which database the state is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The database as a URL without a password: `postgresql://user@host:5432/database?sslmode=require`.
    /// The password is taken from `$PGPASSWORD`.
    pub url: String,
    /// The name of the state: there is room for many in a database.
    #[serde(default = "default_name")]
    pub name: String,
}

fn default_name() -> String {
    "moorfast".to_owned()
}

impl Postgres {
    fn config(&self) -> Result<Config, StateError> {
        // The error quotes nothing of the URL, and neither do we: a password may be in it.
        let mut config: Config = self.url.parse().map_err(|_| {
            StateError::Config(
                "the `url` of the backend is not one of a PostgreSQL database: \
                postgresql://user@host:5432/database"
                    .into(),
            )
        })?;
        if config.get_password().is_some() {
            let advice = "the `url` of the backend holds a password, which everybody who reads the manifest would know: \
                take it out and set $PGPASSWORD";
            return Err(StateError::Config(advice.into()));
        }
        if let Ok(password) = std::env::var("PGPASSWORD") {
            config.password(password);
        }
        config.connect_timeout(CONNECT).keepalives_idle(Duration::from_secs(30));
        config.application_name(format!("moorfast {}", self.name));
        Ok(config)
    }

    /// What it is called in a message.
    pub(super) fn place(&self) -> Result<String, StateError> {
        let config = self.config()?;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        Ok(format!("the state {} in the database {database} on {host}", self.name))
    }
}

/// A connection that is made anew where it broke.
pub(super) struct Connection {
    config: Config,
    current: Mutex<Option<Arc<Client>>>,
}

impl Connection {
    pub(super) fn new(config: &Postgres) -> Result<Self, StateError> {
        Ok(Self { config: config.config()?, current: Mutex::default() })
    }

    pub(super) async fn client(&self) -> Result<Arc<Client>, Trouble> {
        let mut current = self.current.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        // A server that accepts may still say nothing: in its greeting, in TLS, at the login.
        let connected = timeout(LOGIN, self.connect()).await;
        let client = Arc::new(connected.unwrap_or_else(|_| Err(silent(LOGIN)))?);
        *current = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn connect(&self) -> Result<Client, Trouble> {
        if self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(tokio_postgres::NoTls).await.map_err(trouble)?;
            tokio::spawn(connection);
            return Self::prepare(client).await;
        }
        // Somebody else in this process may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connected = self.config.connect(MakeRustlsConnect::new(tls)).await;
        let (client, connection) = connected.map_err(trouble)?;
        tokio::spawn(connection);
        Self::prepare(client).await
    }

    async fn prepare(client: Client) -> Result<Client, Trouble> {
        client.batch_execute(SESSION).await.map_err(trouble)?;
        Ok(client)
    }

    /// The answer, where it comes in time. Who does not answer is left, as nobody can know what else it will not answer.
    pub(super) async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        match timeout(ANSWER, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.current.lock().await.take();
                Err(silent(ANSWER))
            }
        }
    }
}

fn silent(limit: Duration) -> Trouble {
    Trouble::Unclear(format!("no answer within {} s", limit.as_secs()))
}

pub(super) fn trouble(error: Error) -> Trouble {
    let Some(server) = error.as_db_error() else {
        let text = crate::remote::chain(&error);
        return if error.is_closed() || std::error::Error::source(&error).is_some() {
            Trouble::Unclear(text)
        } else {
            Trouble::Refused(text)
        };
    };
    let text = server.message().to_owned();
    let raced = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
    ];
    // Connections, resources, operators, the system itself: it may be better soon.
    let passing = ["08", "53", "55", "57", "58"].iter().any(|class| server.code().code().starts_with(class));
    match server.code() {
        code if raced.contains(code) => Trouble::Conflict,
        _ if passing => Trouble::Unclear(text),
        _ => Trouble::Refused(text),
    }
}

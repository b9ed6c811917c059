//! The state in a PostgreSQL database: one row for each row of the state, changed by single statements.

mod answer_limit;
mod connect;
mod servers;

use async_trait::async_trait;
use futures::TryStreamExt;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use zeroize::Zeroizing;

use self::connect::{Connection, request_error};
use crate::checksum;
use crate::fault_injection::around_request;
use crate::lease::Lease;
use crate::remote::{Changed, Head, Loaded, Medium, RequestError, Rows, Table, Version};
use crate::{SealKey, StateError};

pub use self::connect::Postgres;

/// The format of the rows. Since format 2 head and bodies have a checksum; those of format 1 have none until they change. A newer format is refused.
const FORMAT: i64 = 2;

/// The key of the checksum of the head.
const HEAD: &str = "head";

/// The tables, created when the first state is opened for writing. They contain any number of states.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS moorfast_states (
        name text PRIMARY KEY, format bigint NOT NULL, version bigint NOT NULL, head text NOT NULL);
    CREATE TABLE IF NOT EXISTS moorfast_rows (
        name text NOT NULL, kind text NOT NULL, key text NOT NULL, body text NOT NULL, PRIMARY KEY (name, kind, key));
    CREATE TABLE IF NOT EXISTS moorfast_leases (name text PRIMARY KEY, version bigint NOT NULL, lease text);
    CREATE TABLE IF NOT EXISTS moorfast_keys (
        name text NOT NULL, key bytea NOT NULL, PRIMARY KEY (name, key));
    CREATE TABLE IF NOT EXISTS moorfast_drift (name text PRIMARY KEY, version bigint NOT NULL, body text NOT NULL);";

/// Checks whether all tables exist: the last one was added in a later version.
const HAS_TABLES: &str = "SELECT to_regclass('moorfast_drift') IS NOT NULL";

/// Each statement is a transaction. The head changes only if it has the version that was read, and the rows only if the head changed.
const COMMIT: &str = "
    WITH head AS (
        UPDATE moorfast_states SET head = $3, version = version + 1, format = $9 WHERE name = $1 AND version = $2 RETURNING version
    ), gone AS (
        DELETE FROM moorfast_rows USING unnest($4::text[], $5::text[]) AS old (kind, key)
        WHERE moorfast_rows.name = $1 AND moorfast_rows.kind = old.kind AND moorfast_rows.key = old.key
            AND EXISTS (SELECT FROM head)
    ), put AS (
        INSERT INTO moorfast_rows SELECT $1, new.* FROM unnest($6::text[], $7::text[], $8::text[]) AS new (kind, key, body)
        WHERE EXISTS (SELECT FROM head)
        ON CONFLICT (name, kind, key) DO UPDATE SET body = excluded.body
    )
    SELECT version FROM head";

/// Reads the state in one statement, which sees one moment.
const LOAD: &str = "
    SELECT '' AS kind, version::text AS key, head AS body FROM moorfast_states WHERE name = $1
    UNION ALL SELECT kind, key, body FROM moorfast_rows WHERE name = $1";

/// A state in a database.
pub(crate) struct Database {
    place: String,
    name: String,
    connection: Connection,
}

type Parameter<'p> = (&'p (dyn ToSql + Sync), Type);

impl Database {
    /// Connects to the database. With `writable`, creates missing tables.
    pub(crate) async fn connect(config: Postgres, writable: bool) -> Result<Self, StateError> {
        let place = config.place()?;
        let name = config.state_name();
        let connection = Connection::new(&config)?;
        let database = Self { place, name, connection };
        if writable {
            let made = database.make_tables().await;
            made.map_err(|error| error.at(&database.place, "opening the state"))?;
        }
        Ok(database)
    }

    async fn make_tables(&self) -> Result<(), RequestError> {
        if self.query(HAS_TABLES, &[]).await?.first().is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        let session = self.connection.session().await?;
        let make = || {
            let made = async { session.client.batch_execute(TABLES).await.map_err(request_error) };
            self.connection.in_time(&session, made)
        };
        // If two processes create the tables at once, one fails and finds them in its second attempt.
        match make().await {
            Err(RequestError::Conflict) => make().await,
            other => other,
        }
    }

    async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, RequestError> {
        let session = self.connection.session().await?;
        self.connection.in_time(&session, rows(&session.client, sql, parameters)).await
    }

    /// Runs a statement that changes data.
    async fn write(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, RequestError> {
        around_request(self.query(sql, parameters)).await
    }

    fn name(&self) -> Parameter<'_> {
        (&self.name, Type::TEXT)
    }
}

async fn rows(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, RequestError> {
    let answer = client.query_typed_raw(sql, parameters.iter().cloned()).await.map_err(request_error)?;
    answer.try_collect().await.map_err(request_error)
}

#[async_trait]
impl Medium for Database {
    type Layout = i64;

    fn place(&self) -> &str {
        &self.place
    }

    async fn load(&self, known: Option<Loaded<i64>>) -> Result<Option<Loaded<i64>>, RequestError> {
        let tables_exist = "SELECT to_regclass('moorfast_keys') IS NOT NULL";
        if known.is_none() && !self.query(tables_exist, &[]).await?.first().is_some_and(|row| row.get(0)) {
            return Ok(None);
        }
        let version = "SELECT format, version FROM moorfast_states WHERE name = $1";
        let found = self.query(version, &[self.name()]).await?;
        let Some(found) = found.first() else { return Ok(None) };
        let format = found.get::<_, i64>(0);
        if format > FORMAT {
            let (found, supported) = (format.unsigned_abs(), FORMAT.unsigned_abs());
            return Err(RequestError::Newer { found, supported });
        }
        if let Some(known) = known.filter(|known| known.layout == found.get::<_, i64>(1)) {
            return Ok(Some(known));
        }
        let mut head = None;
        let mut rows = Rows::new();
        for row in self.query(LOAD, &[self.name()]).await? {
            let (kind, key, body): (&str, String, String) = (row.get(0), row.get(1), row.get(2));
            match Table::named(kind) {
                Some(table) => {
                    let json = checksum::verify(&body, &row_name(table, &key)).map_err(RequestError::Corrupt)?;
                    rows.set((table, key), Some(json.to_owned()));
                }
                None => head = Some((key, body)),
            }
        }
        let Some((version, text)) = head else { return Ok(None) };
        let fault = |error: &dyn std::fmt::Display| RequestError::Corrupt(format!("its head cannot be read: {error}"));
        let json = checksum::verify(&text, HEAD).map_err(RequestError::Corrupt)?;
        let head = serde_json::from_str(json).map_err(|error| fault(&error))?;
        let layout = version.parse().map_err(|error| fault(&error))?;
        Ok(Some(Loaded { head, rows, layout }))
    }

    async fn create(&self, head: &Head) -> Result<(), RequestError> {
        let sql = "INSERT INTO moorfast_states VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING RETURNING version";
        let head = checksum::append(&json(head)?, HEAD);
        let made = self.write(sql, &[self.name(), (&FORMAT, Type::INT8), (&head, Type::TEXT)]).await?;
        if made.is_empty() { Err(RequestError::Conflict) } else { Ok(()) }
    }

    async fn commit(&self, from: &Loaded<i64>, head: &Head, changed: &Changed) -> Result<i64, RequestError> {
        let (mut old_kinds, mut old_keys) = (Vec::new(), Vec::new());
        let (mut kinds, mut keys, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for ((table, key), body) in changed {
            if let Some(body) = body {
                kinds.push(table.name());
                keys.push(key.as_str());
                bodies.push(checksum::append(body, &row_name(*table, key)));
            } else {
                old_kinds.push(table.name());
                old_keys.push(key.as_str());
            }
        }
        let head = checksum::append(&json(head)?, HEAD);
        let parameters: [Parameter<'_>; 9] = [
            self.name(),
            (&from.layout, Type::INT8),
            (&head, Type::TEXT),
            (&old_kinds, Type::TEXT_ARRAY),
            (&old_keys, Type::TEXT_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&bodies, Type::TEXT_ARRAY),
            (&FORMAT, Type::INT8),
        ];
        let done = self.write(COMMIT, &parameters).await?;
        done.first().map(|row| row.get(0)).ok_or(RequestError::Conflict)
    }

    async fn clean_up(&self, _: &Loaded<i64>) {}

    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), RequestError> {
        let sql = "SELECT version::text, lease FROM moorfast_leases WHERE name = $1";
        let found = self.query(sql, &[self.name()]).await?;
        let Some(row) = found.first() else { return Ok((None, None)) };
        let text: Option<&str> = row.get(1);
        let lease = text.map(serde_json::from_str).transpose();
        let lease = lease.map_err(|error| RequestError::Corrupt(format!("its lock cannot be read: {error}")))?;
        Ok((lease, Some(row.get(0))))
    }

    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), RequestError> {
        let text = lease.map(json).transpose()?;
        let lease = (&text as &(dyn ToSql + Sync), Type::TEXT);
        let done = match from {
            Some(version) => {
                let sql = "UPDATE moorfast_leases SET lease = $2, version = version + 1
                    WHERE name = $1 AND version::text = $3 RETURNING name";
                self.write(sql, &[self.name(), lease, (version, Type::TEXT)]).await?
            }
            None => {
                let sql = "INSERT INTO moorfast_leases VALUES ($1, 0, $2) ON CONFLICT DO NOTHING RETURNING name";
                self.write(sql, &[self.name(), lease]).await?
            }
        };
        if done.is_empty() { Err(RequestError::Conflict) } else { Ok(()) }
    }

    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), RequestError> {
        // A read-only user cannot create this table in a database of an older moorfast.
        if !self.query(HAS_TABLES, &[]).await?.first().is_some_and(|row| row.get(0)) {
            return Ok((None, None));
        }
        let sql = "SELECT version::text, body FROM moorfast_drift WHERE name = $1";
        let found = self.query(sql, &[self.name()]).await?;
        Ok(found.first().map(|row| (row.get::<_, String>(1).into_bytes(), row.get(0))).unzip())
    }

    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), RequestError> {
        let text = String::from_utf8(bytes).map_err(|error| RequestError::Refused(error.to_string()))?;
        let body: Parameter<'_> = (&text, Type::TEXT);
        let done = match from {
            Some(version) => {
                let sql = "UPDATE moorfast_drift SET body = $2, version = version + 1
                    WHERE name = $1 AND version::text = $3 RETURNING name";
                self.write(sql, &[self.name(), body, (version, Type::TEXT)]).await?
            }
            None => {
                let sql = "INSERT INTO moorfast_drift VALUES ($1, 0, $2) ON CONFLICT DO NOTHING RETURNING name";
                self.write(sql, &[self.name(), body]).await?
            }
        };
        if done.is_empty() { Err(RequestError::Conflict) } else { Ok(()) }
    }

    async fn keys(&self) -> Result<Vec<SealKey>, RequestError> {
        let found = self.query("SELECT key FROM moorfast_keys WHERE name = $1", &[self.name()]).await?;
        let keys = found.iter().map(|row| Zeroizing::new(row.get::<_, Vec<u8>>(0)));
        Ok(keys.filter_map(|key| Some(SealKey::from_bytes(key.as_slice().try_into().ok()?))).collect())
    }

    async fn add_key(&self, key: &SealKey) -> Result<(), RequestError> {
        let bytes = Zeroizing::new(key.as_bytes().to_vec());
        let sql = "INSERT INTO moorfast_keys VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.write(sql, &[self.name(), (&*bytes, Type::BYTEA)]).await.map(drop)
    }

    async fn remove_key(&self, key: &SealKey) -> Result<(), RequestError> {
        let bytes = Zeroizing::new(key.as_bytes().to_vec());
        let sql = "DELETE FROM moorfast_keys WHERE name = $1 AND key = $2";
        self.write(sql, &[self.name(), (&*bytes, Type::BYTEA)]).await.map(drop)
    }
}

/// Returns the name of a row for its checksum and for messages.
fn row_name(table: Table, key: &str) -> String {
    format!("{} {key}", table.name())
}

fn json(value: &impl serde::Serialize) -> Result<String, RequestError> {
    serde_json::to_string(value)
        .map_err(|error| RequestError::Refused(format!("it cannot be written as JSON: {error}")))
}

//! The credentials of requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, ExecConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Error;
use crate::exec::{Credentials, run};

/// How long a token of a file is used before the file is read again.
const FILE_AGE: Duration = Duration::from_secs(60);
/// How long before its expiry a token is renewed.
const RENEWAL_MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// The credentials that are added to every request and renewed before they expire.
#[derive(Clone)]
pub struct Login(Arc<Method>);

enum Method {
    /// No credentials, or a client certificate.
    None,
    /// A constant header.
    Header(HeaderValue),
    /// A token file, with the last token, which is used while the file cannot be read.
    File { path: PathBuf, last: Mutex<Option<(HeaderValue, Instant)>> },
    /// An exec plugin, with its last credentials.
    Plugin { plugin: Box<ExecConfig>, last: Mutex<Issued> },
}

/// The credentials that an exec plugin returned.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) header: Option<HeaderValue>,
    certificate: Option<Certificate>,
    expires: Option<Timestamp>,
    /// Whether the server refused them, and the plugin had no others.
    is_refused: bool,
}

/// A client certificate and its key as base64 of PEM, as in a kubeconfig.
#[derive(Clone)]
pub(crate) struct Certificate {
    certificate: String,
    key: SecretString,
}

impl Certificate {
    /// Sets the certificate of `user`.
    pub(crate) fn set(&self, user: &mut AuthInfo) {
        user.client_certificate_data = Some(self.certificate.clone());
        user.client_key_data = Some(self.key.clone());
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key.expose_secret() == other.key.expose_secret()
    }
}

impl Issued {
    /// Runs the plugin.
    async fn by(plugin: &ExecConfig) -> Result<Self, Error> {
        let Credentials { token, client_certificate_data, client_key_data, expires, .. } = run(plugin).await?;
        let certificate = client_certificate_data.zip(client_key_data).map(|(certificate, key)| Certificate {
            certificate: STANDARD.encode(certificate),
            key: SecretString::from(STANDARD.encode(key)),
        });
        Ok(Self { header: token.as_deref().map(bearer).transpose()?, certificate, expires, is_refused: false })
    }

    /// Runs the plugin again.
    async fn again(&self, plugin: &ExecConfig) -> Result<Self, Error> {
        let issued = Self::by(plugin).await?;
        match issued.is_like(self) {
            true => Ok(issued),
            false => Err(Error::login(
                "the exec plugin of the kubeconfig returned another kind of credentials than the first time",
            )),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.header == other.header && self.certificate == other.certificate
    }

    fn is_due(&self) -> bool {
        self.expires.is_some_and(|end| Timestamp::now() + RENEWAL_MARGIN > end)
    }

    /// Whether both have a token or both have none, and the same for the certificate.
    fn is_like(&self, other: &Self) -> bool {
        self.header.is_some() == other.header.is_some() && self.certificate.is_some() == other.certificate.is_some()
    }
}

impl Login {
    /// Moves the credentials out of `user`; a client certificate stays there.
    pub(crate) async fn take(user: &mut AuthInfo) -> Result<Self, Error> {
        let secret = |taken: Option<SecretString>| taken.filter(|text| !text.expose_secret().trim().is_empty());
        let text = |taken: Option<String>| taken.filter(|text| !text.trim().is_empty());
        let token = secret(user.token.take());
        let file = text(user.token_file.take()).map(PathBuf::from);
        let basic = text(user.username.take()).zip(secret(user.password.take()));
        let id_token = id_token(user)?;
        let plugin = user.exec.take();
        let method = if let Some((name, password)) = basic {
            Method::Header(header(&format!(
                "Basic {}",
                STANDARD.encode(format!("{name}:{}", password.expose_secret()))
            ))?)
        } else if let Some(path) = file {
            let read = read(&path).await;
            let first = match (read, &token) {
                (Ok(first), _) => first,
                (Err(_), Some(token)) => bearer(token.expose_secret())?,
                (Err(error), None) => return Err(error),
            };
            Method::File { path, last: Mutex::new(Some((first, Instant::now()))) }
        } else if let Some(token) = token {
            Method::Header(bearer(token.expose_secret())?)
        } else if let Some(id_token) = id_token {
            Method::Header(bearer(&id_token)?)
        } else if let Some(plugin) = plugin {
            Self::of_plugin(user, plugin).await?
        } else {
            Method::None
        };
        Ok(Self(Arc::new(method)))
    }

    async fn of_plugin(user: &mut AuthInfo, plugin: ExecConfig) -> Result<Method, Error> {
        let issued = Issued::by(&plugin).await?;
        issued.certificate.iter().for_each(|certificate| certificate.set(user));
        Ok(Method::Plugin { plugin: Box::new(plugin), last: Mutex::new(issued) })
    }

    /// Whether the credentials are those of an exec plugin, which may renew a client certificate.
    pub(crate) fn is_plugin(&self) -> bool {
        matches!(&*self.0, Method::Plugin { .. })
    }

    /// Returns the client certificate of the exec plugin, if it has one. It is renewed before it expires.
    pub(crate) async fn certificate(&self) -> Result<Option<Certificate>, Error> {
        match &*self.0 {
            Method::Plugin { plugin, last } => Ok(renewed(plugin, last).await?.certificate),
            _ => Ok(None),
        }
    }

    /// Returns the current credentials of the exec plugin, if there is one.
    pub(crate) async fn issued(&self) -> Result<Option<Issued>, Error> {
        match &*self.0 {
            Method::Plugin { plugin, last } => renewed(plugin, last).await.map(Some),
            Method::None | Method::Header(_) | Method::File { .. } => Ok(None),
        }
    }

    /// Returns other credentials of the exec plugin than those that the server refused. Returns `None` if the plugin has no others.
    pub(crate) async fn replacement(&self, refused: &Issued) -> Result<Option<Issued>, Error> {
        let Method::Plugin { plugin, last } = &*self.0 else { return Ok(None) };
        let mut last = last.lock().await;
        if last.is_same(refused) {
            if last.is_refused {
                return Ok(None);
            }
            let issued = last.again(plugin).await?;
            *last = Issued { is_refused: issued.is_same(refused), ..issued };
        }
        Ok((!last.is_refused).then(|| last.clone()))
    }

    /// Returns the value of the header `Authorization`.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>, Error> {
        match &*self.0 {
            Method::None => Ok(None),
            Method::Header(header) => Ok(Some(header.clone())),
            Method::File { path, last } => {
                let mut last = last.lock().await;
                if last.as_ref().is_none_or(|(_, at)| at.elapsed() > FILE_AGE) {
                    // If the file is missing, the last token is used: https://github.com/kubernetes/kubernetes/issues/68164
                    let renewed = read(path).await.ok().or_else(|| last.take().map(|(header, _)| header));
                    *last = renewed.map(|header| (header, Instant::now()));
                }
                Ok(last.as_ref().map(|(header, _)| header.clone()))
            }
            Method::Plugin { plugin, last } => Ok(renewed(plugin, last).await?.header),
        }
    }
}

/// Returns the credentials of a plugin. They are renewed before they expire.
async fn renewed(plugin: &ExecConfig, last: &Mutex<Issued>) -> Result<Issued, Error> {
    let mut last = last.lock().await;
    if last.is_due() {
        *last = last.again(plugin).await?;
    }
    Ok(last.clone())
}

/// Returns the ID token of `auth-provider: oidc`, the only one that clients still support.
fn id_token(user: &mut AuthInfo) -> Result<Option<String>, Error> {
    let Some(mut provider) = user.auth_provider.take() else { return Ok(None) };
    if provider.name != "oidc" {
        let summary = "the user of the kubeconfig has an `auth-provider`, which Kubernetes 1.26 removed";
        return Err(Error::login(summary)
            .help("write the kubeconfig again with the tool of the cloud provider, so that it uses an exec plugin"));
    }
    match provider.config.remove("id-token").filter(|token| !token.is_empty()) {
        Some(token) => Ok(Some(token)),
        None => Err(Error::login("the user of the kubeconfig has the `auth-provider` oidc without an `id-token`")
            .help("log in with the tool that wrote the kubeconfig")),
    }
}

async fn read(path: &PathBuf) -> Result<HeaderValue, Error> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| {
        Error::login(format!("cannot read the token file {} of the kubeconfig: {error}", path.display()))
    })?;
    if text.trim().is_empty() {
        return Err(Error::login(format!("the token file {} of the kubeconfig is empty", path.display())));
    }
    bearer(&text)
}

fn bearer(token: &str) -> Result<HeaderValue, Error> {
    header(&format!("Bearer {}", token.trim()))
}

fn header(text: &str) -> Result<HeaderValue, Error> {
    let wrong = |_| Error::login("the token of the kubeconfig contains invalid characters, such as a line break");
    let mut header = HeaderValue::try_from(text).map_err(wrong)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn authorization(user: serde_json::Value) -> Result<Option<String>, String> {
        let mut user: AuthInfo = serde_json::from_value(user).unwrap();
        let login = Login::take(&mut user).await.map_err(|e| e.summary)?;
        let header = login.header().await.unwrap();
        assert!(
            user.token.is_none() && user.token_file.is_none() && user.exec.is_none(),
            "no credentials are left for kube"
        );
        Ok(header.map(|value| value.to_str().unwrap().to_owned()))
    }

    #[tokio::test]
    async fn logins_are_read_as_kubectl_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let [plain, with_line_break, empty] =
            [file("plain", "t"), file("with_line_break", "t\r\n"), file("empty", "\n")];
        let gone = folder.path().join("gone");
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c",
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{\"token\":\"t\"}}'"]});
        let cases = [
            (json!({}), Ok(None)),
            (json!({"token": "t"}), Ok(Some("Bearer t"))),
            (json!({"token": "t\n"}), Ok(Some("Bearer t"))),
            (json!({"token": ""}), Ok(None)),
            (json!({"tokenFile": plain}), Ok(Some("Bearer t"))),
            (json!({"tokenFile": with_line_break}), Ok(Some("Bearer t"))),
            (json!({"tokenFile": plain, "token": "other"}), Ok(Some("Bearer t"))),
            (json!({"tokenFile": gone, "token": "t"}), Ok(Some("Bearer t"))),
            (json!({"username": "u", "password": "p"}), Ok(Some("Basic dTpw"))),
            (json!({"exec": exec}), Ok(Some("Bearer t"))),
            (json!({"exec": exec, "token": "mine"}), Ok(Some("Bearer mine"))),
            (json!({"auth-provider": {"name": "oidc", "config": {"id-token": "t"}}}), Ok(Some("Bearer t"))),
            (
                json!({"token": "s3cret\nline"}),
                Err("the token of the kubeconfig contains invalid characters, such as a line break"),
            ),
            (
                json!({"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sh"}}}),
                Err("the user of the kubeconfig has an `auth-provider`, which Kubernetes 1.26 removed"),
            ),
        ];
        for (user, expected) in cases {
            let found = authorization(user.clone()).await;
            assert_eq!(found, expected.map(|o| o.map(str::to_owned)).map_err(str::to_owned), "{user}");
        }
        assert!(
            authorization(json!({"tokenFile": empty})).await.unwrap_err().ends_with("empty of the kubeconfig is empty")
        );
        assert!(authorization(json!({"tokenFile": gone})).await.unwrap_err().starts_with("cannot read the token file"));
    }

    #[tokio::test]
    async fn a_plugin_can_return_a_certificate_and_runs_once() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let status = json!({"clientCertificateData": "CERT", "clientKeyData": "KEY"});
        let credential =
            json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status});
        let script = format!("echo run >>{}; echo '{credential}'", runs.display());
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]});
        let mut user: AuthInfo = serde_json::from_value(json!({ "exec": exec })).unwrap();
        let login = Login::take(&mut user).await.unwrap();
        assert_eq!(login.header().await.unwrap(), None);
        assert_eq!(user.client_certificate_data, Some(STANDARD.encode("CERT")));
        assert_eq!(user.client_key_data.unwrap().expose_secret(), STANDARD.encode("KEY"));
        assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    }

    #[tokio::test]
    async fn an_expiring_certificate_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let status =
            json!({"clientCertificateData": "CERT-N", "clientKeyData": "KEY", "expirationTimestamp": "EXPIRY"});
        let credential =
            json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status});
        // The first certificate has expired, the second one has not.
        let script = format!(
            "echo >>{0}; n=$(wc -l <{0}); [ $n = 1 ] && e=2020-01-01T00:00:00Z || e=2099-01-01T00:00:00Z; echo '{credential}' | sed \"s/CERT-N/CERT-$n/; s/EXPIRY/$e/\"",
            runs.display()
        );
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]});
        let mut user: AuthInfo = serde_json::from_value(json!({ "exec": exec })).unwrap();
        let login = Login::take(&mut user).await.unwrap();
        assert_eq!(user.client_certificate_data, Some(STANDARD.encode("CERT-1")));
        for _ in 0..2 {
            assert_eq!(login.header().await.unwrap(), None);
            let certificate = login.certificate().await.unwrap().unwrap();
            assert_eq!(certificate.certificate, STANDARD.encode("CERT-2"));
        }
    }
}

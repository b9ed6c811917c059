//! Kubeconfig files: search, merge and selection of a context, as in kubectl.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;

use crate::proxy::{self, environment_proxy};
use crate::{Error, Login};

/// The kubeconfig and context of a cluster.
#[derive(Clone)]
pub struct Source {
    /// The kubeconfig.
    pub origin: Origin,
    /// The context; if `None`, the current context.
    pub context: Option<String>,
}

/// The origin of a connection.
#[derive(Clone)]
pub enum Origin {
    /// A kubeconfig file.
    File(PathBuf),
    /// The text of a kubeconfig.
    Text(String),
    /// The ServiceAccount of the pod.
    InCluster,
    /// The default of kubectl: `$KUBECONFIG`, `~/.kube/config`, then the ServiceAccount of the pod.
    Default,
}

/// The connection to a cluster.
pub struct Access {
    /// The configuration of a client, Its only credentials are a client certificate.
    pub config: Config,
    /// The credentials of the requests.
    pub login: Login,
}

impl Source {
    /// Reads the kubeconfig and logs in.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used or there are no credentials.
    pub async fn open(&self) -> Result<Access, Error> {
        let mut config = self.config()?;
        let login = Login::take(&mut config.auth_info).await?;
        Ok(Access { config, login })
    }

    fn config(&self) -> Result<Config, Error> {
        match &self.origin {
            Origin::File(path) => {
                self.select(read(path)?.map_err(|io| unreadable(path, &io))?, &path.display().to_string())
            }
            Origin::Text(text) => {
                let place = "kubeconfig_content";
                self.select(Kubeconfig::from_yaml(text).map_err(|e| unusable(place, &e))?, place)
            }
            Origin::InCluster => in_cluster().map_err(|reason| {
                Error::unusable(reason).help("`in_cluster` works only in a pod with a ServiceAccount")
            }),
            Origin::Default => {
                let paths = user_paths();
                match merged(&paths)? {
                    Some((kubeconfig, place)) => self.select(kubeconfig, &place),
                    None => self.without_file(&paths),
                }
            }
        }
    }

    fn without_file(&self, paths: &[PathBuf]) -> Result<Config, Error> {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        let searched = format!("no such file: {}", paths.join(", "));
        let summary =
            "cannot find a kubeconfig: there is neither $KUBECONFIG nor ~/.kube/config nor the ServiceAccount of a pod";
        let missing = |detail| {
            Error { detail, ..Error::unusable(summary) }
                .help("set its path: [providers.kubernetes] kubeconfig = \"admin.kubeconfig\"")
        };
        match &self.context {
            Some(context) => {
                Err(missing(vec![searched, format!("`context` is {context:?}, which requires a kubeconfig")]))
            }
            None => in_cluster().map_err(|reason| missing(vec![searched, reason])),
        }
    }

    fn select(&self, kubeconfig: Kubeconfig, place: &str) -> Result<Config, Error> {
        let wrong = |what: String| Error::unusable(format!("the kubeconfig {place} {what}"));
        let named = self.context.clone().or(kubeconfig.current_context);
        let name = named.ok_or_else(|| {
            wrong("has no current context".to_owned()).help("set `context`; `kubectl config get-contexts` lists them")
        })?;
        let context = kubeconfig.contexts.into_iter().find(|c| c.name == name).and_then(|c| c.context);
        let Context { cluster, user, namespace, .. } = context.ok_or_else(|| {
            wrong(format!("has no context `{name}`")).help("`kubectl config get-contexts` lists them")
        })?;
        let found = kubeconfig.clusters.into_iter().find(|c| c.name == cluster).and_then(|c| c.cluster);
        let found =
            found.ok_or_else(|| wrong(format!("has no cluster `{cluster}`, which the context `{name}` refers to")))?;
        let user = user.filter(|user| !user.is_empty());
        let users = kubeconfig.auth_infos.into_iter();
        // As in kubectl, a missing user means no credentials.
        let user = user.and_then(|user| users.into_iter().find(|u| u.name == user)?.auth_info).unwrap_or_default();
        let mut config = configured(found, without_blanks(user), place)?;
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            config.default_namespace = namespace;
        }
        Ok(config)
    }
}

fn in_cluster() -> Result<Config, String> {
    let mut config = Config::incluster().map_err(|error| format!("no ServiceAccount of a pod: {error}"))?;
    config.proxy_url = environment_proxy(&config.cluster_url).map_err(|error| error.summary)?;
    Ok(config)
}

/// Whether the user chose the kubeconfig, whatever a manifest says: it is one of those of `$KUBECONFIG`, otherwise `~/.kube/config`.
#[must_use]
pub fn is_chosen_by_user(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    user_paths().iter().any(|own| own.canonicalize().is_ok_and(|own| own == path))
}

fn user_paths() -> Vec<PathBuf> {
    default_paths(std::env::var_os("KUBECONFIG"), std::env::home_dir())
}

/// Returns the files that kubectl reads. The first file has priority.
fn default_paths(listed: Option<std::ffi::OsString>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in listed.iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        paths.extend(home.map(|home| home.join(".kube/config")));
    }
    paths
}

/// Merges the files and returns the result with their names; `None` if no file exists.
fn merged(paths: &[PathBuf]) -> Result<Option<(Kubeconfig, String)>, Error> {
    let mut found: Option<(Kubeconfig, String)> = None;
    for path in paths {
        let kubeconfig = match read(path)? {
            Ok(kubeconfig) => kubeconfig,
            Err(io) if io.kind() == std::io::ErrorKind::NotFound => continue,
            Err(io) => return Err(unreadable(path, &io)),
        };
        let name = path.display().to_string();
        found = Some(match found {
            None => (kubeconfig, name),
            Some((before, names)) => {
                let merged = before.merge(kubeconfig).map_err(|e| unusable(&name, &e))?;
                (merged, format!("{names}, {name}"))
            }
        });
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Result<Kubeconfig, std::io::Error>, Error> {
    if let Err(error) = check(path) {
        return Ok(Err(error));
    }
    match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => {
            // kubectl writes an empty text if there is no current context.
            let current_context = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
            Ok(Ok(Kubeconfig { current_context, ..kubeconfig }))
        }
        Err(KubeconfigError::ReadConfig(io, _)) => Ok(Err(io)),
        Err(error) => Err(unusable(&path.display().to_string(), &error)),
    }
}

fn unreadable(path: &Path, io: &std::io::Error) -> Error {
    let error = Error::unusable(format!("cannot read the kubeconfig {}: {io}", path.display()));
    match io.kind() {
        std::io::ErrorKind::NotFound => {
            error.help("correct `kubeconfig`; a relative path starts at the folder of the manifest")
        }
        _ => error,
    }
}

fn unusable(place: &str, error: &KubeconfigError) -> Error {
    match error {
        // The YAML error quotes its surroundings, which can contain credentials.
        KubeconfigError::Parse(_) => Error::unusable(format!("the kubeconfig {place} is not valid YAML")),
        other => Error::unusable(format!("the kubeconfig {place} cannot be used: {other}")),
    }
}

/// The size limit of a kubeconfig or certificate in bytes.
const SIZE_LIMIT: u64 = 16 << 20;

/// Checks that the file is not a device and not too large.
fn check(path: &Path) -> std::io::Result<()> {
    let found = std::fs::metadata(path)?;
    let kind = found.file_type();
    if kind.is_char_device() || kind.is_block_device() || kind.is_dir() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    match found.len() > SIZE_LIMIT {
        true => Err(std::io::Error::other(format!("it is larger than {} MiB", SIZE_LIMIT >> 20))),
        false => Ok(()),
    }
}

/// Whether the path names a file. An empty path, made absolute, is the path of a folder.
fn is_file(path: &str) -> bool {
    !path.is_empty() && !path.ends_with('/')
}

/// Removes the empty texts of `user`, which count as unset.
fn without_blanks(mut user: AuthInfo) -> AuthInfo {
    for path in [&mut user.client_certificate, &mut user.client_key, &mut user.token_file] {
        *path = path.take().filter(|path| is_file(path));
    }
    for text in [&mut user.client_certificate_data, &mut user.impersonate] {
        *text = text.take().filter(|text| !text.is_empty());
    }
    user.client_key_data = user.client_key_data.filter(|key| !key.expose_secret().is_empty());
    user
}

fn configured(cluster: Cluster, mut user: AuthInfo, place: &str) -> Result<Config, Error> {
    let wrong = |what: String| Error::unusable(format!("the kubeconfig {place} cannot be used: {what}"));
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        let described = (&cluster).try_into().map_err(|error: KubeconfigError| wrong(error.to_string()))?;
        exec.cluster = Some(described);
    }
    let authority = authority(&cluster).map_err(wrong)?;
    let server = cluster.server.as_deref().filter(|server| !server.is_empty());
    let server = server.ok_or_else(|| wrong("its cluster is missing `server`".to_owned()))?;
    let has_tls = authority.is_some() || cluster.insecure_skip_tls_verify == Some(true);
    let mut config = Config::new(url(server, has_tls).map_err(wrong)?);
    config.proxy_url = proxy::choose(&config.cluster_url, cluster.proxy_url.as_deref(), proxy::variable)?;
    config.root_cert = authority;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.tls_server_name = cluster.tls_server_name.filter(|name| !name.is_empty());
    config.auth_info = user;
    Ok(config)
}

/// Parses the URL of the server. Without a scheme, it is https if the cluster has TLS settings.
fn url(server: &str, has_tls: bool) -> Result<Uri, String> {
    let full = match (server.contains("://"), has_tls) {
        (true, _) => server.to_owned(),
        (false, true) => format!("https://{server}"),
        (false, false) => format!("http://{server}"),
    };
    let uri: Uri = full.trim_end_matches('/').parse().map_err(|error| format!("its `server` is not a URL: {error}"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err("its `server` is not a URL of http or https".to_owned()),
    }
}

/// Returns the CA certificates of the cluster.
fn authority(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, String> {
    let data = cluster.certificate_authority_data.as_deref().filter(|data| !data.is_empty());
    let file = cluster.certificate_authority.as_ref().filter(|file| is_file(file));
    let pem = match (data, file) {
        (Some(data), _) => {
            STANDARD.decode(data.trim()).map_err(|_| "its `certificate-authority-data` is not base64".to_owned())?
        }
        (None, Some(file)) => check(Path::new(file))
            .and_then(|()| std::fs::read(file))
            .map_err(|error| format!("cannot read its certificate authority {file}: {error}"))?,
        (None, None) => return Ok(None),
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).map(|c| c.map(|c| c.to_vec())).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(Some(certificates)),
        _ => Err("its certificate authority is not a PEM certificate".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_large_files_are_not_read() {
        for path in ["/dev/zero", "/dev", "/proc/kcore"] {
            check(Path::new(path)).unwrap_err();
        }
        check(Path::new("/proc/self/status")).unwrap();
    }

    #[test]
    fn a_broken_kubeconfig_is_not_quoted() {
        let text = "users:\n- name: a\n  user:\n    token: s3cr3t-token\n   bad: indent\n";
        let error = Kubeconfig::from_yaml(text).unwrap_err();
        let error_shown = unusable("of $KUBECONFIG or ~/.kube/config", &error);
        assert_eq!(error_shown.summary, "the kubeconfig of $KUBECONFIG or ~/.kube/config is not valid YAML");
    }

    fn kubeconfig(current: &str, name: &str, server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {current}\nclusters: [{{name: {name}, cluster: {{server: '{server}', certificate-authority: ''}}}}]\n\
             contexts: [{{name: {name}, context: {{cluster: {name}, user: ''}}}}]\nusers: null\n"
        )
    }

    fn server(paths: &[PathBuf], context: Option<&str>) -> Result<String, String> {
        let source = Source { origin: Origin::Default, context: context.map(str::to_owned) };
        let (kubeconfig, place) = merged(paths).map_err(|e| e.summary)?.ok_or("no file")?;
        source.select(kubeconfig, &place).map(|config| config.cluster_url.to_string()).map_err(|e| e.summary)
    }

    #[test]
    fn files_are_merged_and_the_first_has_priority() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let none = folder.path().join("none");
        // kubectl leaves `current-context: ""` behind.
        let blank = file("blank", kubeconfig("\"\"", "a", "https://a:1"));
        let first = file("first", kubeconfig("b", "b", "https://b:1"));
        let second = file("second", kubeconfig("a", "b", "https://other:1"));
        let empty = file("empty", String::new());
        let broken = file("broken", "users: [{token: s3cr3t".to_owned());
        assert_eq!(server(&[blank.clone(), none.clone(), first.clone()], None).unwrap(), "https://b:1/");
        assert_eq!(server(&[first.clone(), second.clone(), blank.clone()], None).unwrap(), "https://b:1/");
        assert_eq!(server(&[first.clone(), blank.clone()], Some("a")).unwrap(), "https://a:1/");
        assert_eq!(server(&[empty, first.clone()], None).unwrap(), "https://b:1/");
        assert_eq!(server(&[none], None).unwrap_err(), "no file");
        let folder_as_file = server(&[first.clone(), folder.path().to_owned()], None).unwrap_err();
        assert!(folder_as_file.starts_with("cannot read the kubeconfig"), "{folder_as_file}");
        let error_shown = server(&[first, broken.clone()], None).unwrap_err();
        assert_eq!(error_shown, format!("the kubeconfig {} is not valid YAML", broken.display()));
        assert_eq!(
            server(std::slice::from_ref(&blank), None).unwrap_err(),
            format!("the kubeconfig {} has no current context", blank.display())
        );
    }

    #[test]
    fn the_default_files_are_those_of_kubectl() {
        let home = || Some(PathBuf::from("/home/a"));
        let cases = [
            (None, vec!["/home/a/.kube/config"]),
            (Some(""), vec!["/home/a/.kube/config"]),
            (Some(":"), vec!["/home/a/.kube/config"]),
            (Some("a::b:a"), vec!["a", "b"]),
        ];
        for (listed, expected) in cases {
            let found = default_paths(listed.map(Into::into), home());
            assert_eq!(found, expected.into_iter().map(PathBuf::from).collect::<Vec<_>>(), "{listed:?}");
        }
    }

    #[test]
    fn the_server_is_parsed_as_a_url() {
        assert_eq!(url("https://a:6443/", true).unwrap().to_string(), "https://a:6443/");
        assert_eq!(url("a:6443", true).unwrap().to_string(), "https://a:6443/");
        assert_eq!(url("a:8080", false).unwrap().to_string(), "http://a:8080/");
        assert_eq!(url("https://rancher/k8s/clusters/c-1", true).unwrap().path(), "/k8s/clusters/c-1");
        assert_eq!(url("ftp://a", true).unwrap_err(), "its `server` is not a URL of http or https");
    }
}

//! The ssh_config of a node: what moorfast insists on, then what the user's own says.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moorfast_engine::{Attributes, Class, Node, ProviderError, Value};

use crate::duration;

/// How connections are made; `[providers.ssh]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long each host on the way may take to accept a connection.
    pub connect_timeout: Duration,
    /// The ssh_config of the user; `~/.ssh/config` and the system's where none is given.
    pub config_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), config_file: None }
    }
}

impl Settings {
    /// The settings of `[providers.ssh]`; relative paths start at `root`.
    pub fn new(config: &Attributes, root: &Path) -> Self {
        let file = config.get("config_file").and_then(Value::as_str).map(|path| match path.starts_with('~') {
            true => PathBuf::from(path),
            false => root.join(path),
        });
        let connect_timeout = duration::of(config, "connect_timeout").unwrap_or(Self::default().connect_timeout);
        Self { connect_timeout, config_file: file }
    }
}

/// One hop on the way: the node itself or a jump host.
pub(super) struct Hop<'a> {
    /// What ssh is told to connect to, so that the user's `Host` blocks are found.
    pub(super) destination: String,
    /// User, where it is given.
    pub(super) user: Option<&'a str>,
    /// Port, where it is given.
    pub(super) port: Option<u16>,
}

impl<'a> Hop<'a> {
    /// The jump host that `[user@]host[:port]` says.
    pub(super) fn parse(text: &'a str) -> Result<Self, ProviderError> {
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(u, h)| (Some(u), h));
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let port = port.map(str::parse).transpose().map_err(|_| unfit("port", text))?;
        let destination = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { destination: checked("jump host", &destination)?.to_owned(), user, port })
    }

    /// The node itself.
    pub(super) fn node(node: &'a Node) -> Result<Self, ProviderError> {
        let destination = checked("address", &node.address)?.to_owned();
        Ok(Self { destination, user: node.user.as_deref(), port: node.port })
    }
}

/// `text`, where it can stand in an ssh_config and on a command line.
fn checked<'t>(what: &str, text: &'t str) -> Result<&'t str, ProviderError> {
    let fits = |c: char| c.is_alphanumeric() || "._-:%".contains(c);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(fits) {
        true => Ok(text),
        false => Err(unfit(what, text)),
    }
}

fn unfit(what: &str, text: &str) -> ProviderError {
    ProviderError::new(Class::Invalid, format!("`{text}` is not a valid {what} for ssh"))
}

/// The config of one hop.
pub(super) struct Config<'a> {
    /// Where it leads.
    pub(super) hop: &'a Hop<'a>,
    /// The name under which its host key is known; the destination where none.
    pub(super) alias: Option<&'a str>,
    /// A private key file.
    pub(super) identity_file: Option<PathBuf>,
    /// Where its host keys are looked up.
    pub(super) known_hosts: Vec<PathBuf>,
    /// Take the key of a host that is not known yet?
    pub(super) accept_new: bool,
    /// The config of the hop before, and the file where its ssh says what fails.
    pub(super) through: Option<(&'a Hop<'a>, PathBuf, PathBuf)>,
    /// The control socket of a jump host, whose connection is shared by all that go through it.
    pub(super) shared: Option<PathBuf>,
}

impl Config<'_> {
    /// The text of the file.
    pub(super) fn text(&self, settings: &Settings) -> String {
        let mut text = format!("Host {}\n", self.hop.destination);
        let mut option = |name: &str, value: &str| {
            // Writing into a String does not fail.
            let _ = writeln!(text, "  {name} {value}");
        };
        if let Some(alias) = self.alias {
            option("HostKeyAlias", alias);
            option("GlobalKnownHostsFile", "/dev/null");
            option("CheckHostIP", "no");
        }
        if let Some(user) = self.hop.user {
            option("User", &word(user));
        }
        if let Some(port) = self.hop.port {
            option("Port", &port.to_string());
        }
        if let Some(file) = &self.identity_file {
            option("IdentityFile", &path_word(file));
            option("IdentitiesOnly", "yes");
        }
        if let Some((hop, config, log)) = &self.through {
            let (config, log) = (path_word(config), path_word(log));
            option("ProxyCommand", &format!("ssh -F {config} -E {log} -W [%h]:%p {}", hop.destination));
        }
        if let Some(socket) = &self.shared {
            option("ControlMaster", "auto");
            option("ControlPath", &path_word(socket));
            option("ControlPersist", "30");
        }
        let files: Vec<_> = self.known_hosts.iter().map(|f| path_word(f)).collect();
        option("UserKnownHostsFile", &files.join(" "));
        option("StrictHostKeyChecking", if self.accept_new { "accept-new" } else { "yes" });
        option("HashKnownHosts", "no");
        option("UpdateHostKeys", "no");
        option("ConnectTimeout", &duration::seconds(settings.connect_timeout).max(1).to_string());
        option("ServerAliveInterval", "15");
        option("ServerAliveCountMax", "3");
        option("RequestTTY", "no");
        option("RemoteCommand", "none");
        option("PermitLocalCommand", "no");
        // A node is not to use the keys of whoever runs moorfast, least of all a machine that is only asked who it is.
        option("ForwardAgent", "no");
        option("ForwardX11", "no");
        option("GSSAPIDelegateCredentials", "no");
        option("ClearAllForwardings", if self.shared.is_some() { "no" } else { "yes" });
        option("LogLevel", "INFO");
        // Also for jump hosts that the user's own configuration names: nothing ever asks on the terminal.
        text.push_str("Host *\n  BatchMode yes\n");
        match &settings.config_file {
            Some(file) => text.push_str(&format!("Include {}\n", word(&file.to_string_lossy()))),
            None => text.push_str("Include ~/.ssh/config\nHost *\nInclude /etc/ssh/ssh_config\n"),
        }
        text
    }
}

/// A path as the value of an option. `~` in front stays what it is for ssh.
fn path_word(path: &Path) -> String {
    word(&escaped(path))
}

/// A path whose `%` do not become tokens of ssh.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

fn word(text: &str) -> String {
    format!("\"{}\"", text.replace(['"', '\n'], ""))
}

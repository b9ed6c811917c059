//! The ssh_config of a node: the options that moorfast requires, then the user's own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moorfast_engine::model::{Attributes, Node, Value};
use moorfast_engine::provider::{Class, ProviderError};

use crate::duration;

/// The settings of `[providers.ssh]`: how connections are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long each jump host and the node may take to accept a connection.
    pub connect_timeout: Duration,
    /// The ssh_config of the user. Default: `~/.ssh/config` and the one of the system.
    pub config_file: Option<PathBuf>,
    /// The folder of the manifest, where relative paths start.
    pub root: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), config_file: None, root: PathBuf::new() }
    }
}

impl Settings {
    /// Returns the settings of `[providers.ssh]`. Relative paths start at `root`.
    pub fn new(config: &Attributes, root: &Path) -> Self {
        let file = config.get("config_file").and_then(Value::as_str).map(|path| match path.starts_with('~') {
            true => PathBuf::from(path),
            false => root.join(path),
        });
        let connect_timeout = duration::of(config, "connect_timeout").unwrap_or(Self::default().connect_timeout);
        Self { connect_timeout, config_file: file, root: root.to_owned() }
    }
}

/// A host of the route: the node itself or a jump host.
pub(super) struct Hop<'a> {
    /// The host argument of ssh, so that the `Host` blocks of the user match.
    pub(super) destination: String,
    /// The user, if it is set.
    pub(super) user: Option<&'a str>,
    /// The port, if it is set.
    pub(super) port: Option<u16>,
}

impl<'a> Hop<'a> {
    /// Parses a jump host: `[user@]host[:port]`.
    pub(super) fn parse(text: &'a str) -> Result<Self, ProviderError> {
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(u, h)| (Some(u), h));
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let port = port.map(str::parse).transpose().map_err(|_| invalid("port", text))?;
        let destination = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let user = user.map(checked_user).transpose()?;
        Ok(Self { destination: checked_word("jump host", &destination)?.to_owned(), user, port })
    }

    /// Returns the hop of the node itself.
    pub(super) fn node(node: &'a Node) -> Result<Self, ProviderError> {
        let destination = checked_word("address", &node.address)?.to_owned();
        Ok(Self { destination, user: node.user.as_deref().map(checked_user).transpose()?, port: node.port })
    }
}

/// Returns `text` if it is safe in an ssh_config and on a command line.
fn checked_word<'t>(what: &str, text: &'t str) -> Result<&'t str, ProviderError> {
    let fits = |c: char| c.is_alphanumeric() || "._-:%".contains(c);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(fits) {
        true => Ok(text),
        false => Err(invalid(what, text)),
    }
}

/// Returns the user if a shell does not interpret it, as ssh demands of a user on its command line: a `ProxyCommand` of the user's own ssh_config may contain it.
fn checked_user(text: &str) -> Result<&str, ProviderError> {
    let is_special = |c: char| c.is_control() || "'\"`$;&<>|(){}".contains(c);
    match text.is_empty() || text.starts_with('-') || text.ends_with('\\') || text.contains(is_special) {
        true => Err(invalid("user", text)),
        false => Ok(text),
    }
}

fn invalid(what: &str, text: &str) -> ProviderError {
    ProviderError::new(Class::Invalid, format!("`{text}` is not a valid {what} for ssh"))
}

/// The ssh_config of one hop.
pub(super) struct HopConfig<'a> {
    /// The host.
    pub(super) hop: &'a Hop<'a>,
    /// The name of its host key in known_hosts. Default: the destination.
    pub(super) alias: Option<&'a str>,
    /// The private key file.
    pub(super) identity_file: Option<PathBuf>,
    /// The known_hosts files.
    pub(super) known_hosts: Vec<PathBuf>,
    /// The script that checks the fingerprint of the offered key, if it is pinned.
    pub(super) known_hosts_script: Option<PathBuf>,
    /// Whether an unknown host key is accepted.
    pub(super) accept_new: bool,
    /// The previous hop, its ssh_config, and the log file of its ssh.
    pub(super) through: Option<(&'a Hop<'a>, PathBuf, PathBuf)>,
    /// The control socket of a jump host, whose connection all nodes behind it share.
    pub(super) control_socket: Option<PathBuf>,
}

impl HopConfig<'_> {
    /// Returns the text of the file.
    pub(super) fn text(&self, settings: &Settings) -> String {
        let mut text = format!("Host {}\n", self.hop.destination);
        let mut option = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name} {value}");
        };
        if let Some(alias) = self.alias {
            option("HostKeyAlias", alias);
            option("GlobalKnownHostsFile", "/dev/null");
            option("CheckHostIP", "no");
        }
        if let Some(user) = self.hop.user {
            option("User", &quoted(user));
        }
        if let Some(port) = self.hop.port {
            option("Port", &port.to_string());
        }
        if let Some(file) = &self.identity_file {
            option("IdentityFile", &quoted_path(file));
            option("IdentitiesOnly", "yes");
        }
        if let Some((hop, config, log)) = &self.through {
            let (config, log) = (quoted_path(config), quoted_path(log));
            option("ProxyCommand", &format!("ssh -F {config} -E {log} -W [%h]:%p {}", hop.destination));
        }
        if let Some(socket) = &self.control_socket {
            option("ControlMaster", "auto");
            option("ControlPath", &quoted_path(socket));
            option("ControlPersist", "30");
        }
        let files: Vec<_> = self.known_hosts.iter().map(|f| quoted_path(f)).collect();
        option("UserKnownHostsFile", &files.join(" "));
        if let Some(script) = &self.known_hosts_script {
            option("KnownHostsCommand", &format!("/bin/sh {} %f %H %t %K", quoted_path(script)));
        }
        option("StrictHostKeyChecking", if self.accept_new { "accept-new" } else { "yes" });
        option("HashKnownHosts", "no");
        option("UpdateHostKeys", "no");
        option("ConnectTimeout", &duration::seconds(settings.connect_timeout).max(1).to_string());
        option("ServerAliveInterval", "15");
        option("ServerAliveCountMax", "3");
        option("RequestTTY", "no");
        option("RemoteCommand", "none");
        option("PermitLocalCommand", "no");
        // A node must not use the keys of the user who runs moorfast, above all a machine whose identity is not known.
        option("ForwardAgent", "no");
        option("ForwardX11", "no");
        option("GSSAPIDelegateCredentials", "no");
        option("ClearAllForwardings", if self.control_socket.is_some() { "no" } else { "yes" });
        option("LogLevel", "INFO");
        // This applies also to jump hosts of the user's own configuration: nothing may prompt on the terminal.
        text.push_str("Host *\n  BatchMode yes\n");
        match &settings.config_file {
            Some(file) => text.push_str(&format!("Include {}\n", quoted(&file.to_string_lossy()))),
            None => text.push_str("Include ~/.ssh/config\nHost *\nInclude /etc/ssh/ssh_config\n"),
        }
        text
    }
}

/// Returns a path as the value of an option. ssh expands a leading `~`.
fn quoted_path(path: &Path) -> String {
    quoted(&escaped(path))
}

/// Returns a path in which `%` is no token of ssh.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace(['"', '\n'], ""))
}

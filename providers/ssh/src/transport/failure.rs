//! Errors for failures of ssh and sudo, by their messages.

use std::io;
use std::path::Path;
use std::time::Duration;

use moorfast_engine::model::{ErrorCode, Node};
use moorfast_engine::provider::{Class, Need, ProviderError};

use crate::duration;
use crate::error_codes;

/// A known failure of ssh: the text in its output, and the error for it.
struct FailurePattern {
    text: &'static str,
    class: Class,
    /// The step of the connection that failed.
    need: Need,
    /// Completes "cannot connect to NODE (ADDRESS): ".
    reason: &'static str,
    help: &'static str,
}

impl FailurePattern {
    fn code(&self) -> Option<ErrorCode> {
        match (self.class, self.need) {
            (Class::Unreachable, _) => Some(error_codes::CONNECTION_FAILED),
            (Class::Denied, Need::Login) => Some(error_codes::LOGIN_REFUSED),
            _ => None,
        }
    }
}

/// The first pattern that matches wins.
const PATTERNS: &[FailurePattern] = &[
    FailurePattern {
        text: "UNPROTECTED PRIVATE KEY FILE",
        class: Class::Denied,
        need: Need::Login,
        reason: "ssh refuses a private key that other users can read",
        help: "restrict its permissions: chmod 600 KEYFILE",
    },
    FailurePattern {
        text: "Too many authentication failures",
        class: Class::Denied,
        need: Need::Login,
        reason: "the server refused too many keys",
        help: "name the right key: set identity_file on the node, or IdentitiesOnly in your ssh_config",
    },
    FailurePattern {
        text: "Permission denied (",
        class: Class::Denied,
        need: Need::Login,
        reason: "the key is refused",
        help: "check user and identity_file in the manifest, the keys that `ssh-add -l` lists, and authorized_keys on the node",
    },
    FailurePattern {
        text: "Could not resolve hostname",
        class: Class::Unreachable,
        need: Need::Address,
        reason: "the host name does not exist",
        help: "check the address of the node",
    },
    FailurePattern {
        text: "Connection refused",
        class: Class::Unreachable,
        need: Need::Connection,
        reason: "connection refused",
        help: "check that sshd runs on the node, and that the port is right",
    },
    FailurePattern {
        text: "No route to host",
        class: Class::Unreachable,
        need: Need::Connection,
        reason: "no route to host",
        help: "check that the node is up, and whether it needs a jump host",
    },
    FailurePattern {
        text: "Network is unreachable",
        class: Class::Unreachable,
        need: Need::Connection,
        reason: "network is unreachable",
        help: "check the network of this machine, and whether the node needs a jump host",
    },
    FailurePattern {
        text: "administratively prohibited",
        class: Class::Denied,
        need: Need::Connection,
        reason: "the jump host does not permit forwarding",
        help: "set AllowTcpForwarding yes in the sshd_config of the jump host",
    },
    FailurePattern {
        text: "timed out",
        class: Class::Unreachable,
        need: Need::Connection,
        reason: "the node does not answer",
        help: "check that the node is up, and whether a firewall drops the connection",
    },
    FailurePattern {
        text: "too long for Unix domain socket",
        class: Class::Failed,
        need: Need::Connection,
        reason: "the path of the control socket is too long",
        help: "set XDG_RUNTIME_DIR to a private directory with a short path",
    },
    FailurePattern {
        text: "ad configuration option",
        class: Class::Failed,
        need: Need::Connection,
        reason: "your ssh_config has an option that this ssh does not know",
        help: "run `ssh -G HOST` by hand to see the option",
    },
];

/// Messages of ssh if sshd drops a connection because too many start at the same time.
const DROPPED: &[&str] = &[
    "kex_exchange_identification: Connection closed by",
    "kex_exchange_identification: read: Connection reset",
    "kex_exchange_identification: banner line contains invalid characters",
    "Exceeded MaxStartups",
    "Connection closed by UNKNOWN port",
    "Connection reset by peer",
];

/// A failed connection: the output of ssh, and the limit if the connection exceeded it.
#[derive(Clone, Debug)]
pub(super) struct ConnectFailure {
    pub(super) output: String,
    pub(super) timed_out: Option<Duration>,
}

impl ConnectFailure {
    /// Whether sshd dropped the connection before the key exchange, so that a retry makes sense.
    pub(super) fn is_drop(&self) -> bool {
        self.timed_out.is_none() && is_drop(&self.output)
    }

    /// Whether ssh refused the host key, or could not check a pinned fingerprint: OpenSSH before 8.5 does not know the option, and ssh runs no command if the
    /// group of its process is not that of its user, as in a container with `runAsUser`.
    pub(super) fn is_about_host_key(&self) -> bool {
        self.output.contains("ost key verification failed") || failed_to_check(&self.output)
    }

    /// Returns the error of a connection to `node`.
    pub(super) fn error(&self, node: &Node) -> ProviderError {
        match self.timed_out {
            None => from_ssh(node, &self.output),
            Some(limit) => ProviderError::new(
                Class::Unreachable,
                format!("cannot connect to {}: no session after {}", place(node), duration::shown(limit)),
            )
            .code(error_codes::CONNECTION_FAILED)
            .help("check that sshd answers at this address and port; `connect_timeout` in [providers.ssh] gives a slow host more time")
            .detail(self.output.lines().map(str::trim).filter(|line| !line.is_empty())),
        }
    }
}

/// Whether `output` names the option that checks a pinned fingerprint. ssh names it only in errors, not in the refusal of a key.
fn failed_to_check(output: &str) -> bool {
    output.to_ascii_lowercase().contains("knownhostscommand")
}

/// Whether `output` shows a connection that was dropped before the key exchange, so that a retry makes sense.
fn is_drop(output: &str) -> bool {
    !output.contains("ost key verification failed")
        && !failed_to_check(output)
        && PATTERNS.iter().all(|pattern| !output.contains(pattern.text))
        && DROPPED.iter().any(|drop| output.contains(drop))
}

/// Returns the error of a connection to `node` from the output of ssh.
fn from_ssh(node: &Node, output: &str) -> ProviderError {
    let lines = output.lines().map(str::trim).filter(|l| !l.is_empty() && !l.chars().all(|c| c == '@'));
    let error = match output {
        _ if output.contains("HOST IDENTIFICATION HAS CHANGED") => changed_host_key(node, output),
        _ if output.contains("ost key verification failed") => unknown_host_key(node, output),
        _ => by_pattern(node, output),
    };
    error.detail(lines)
}

fn by_pattern(node: &Node, output: &str) -> ProviderError {
    let place = place(node);
    if let Some(pattern) = PATTERNS.iter().find(|pattern| output.contains(pattern.text)) {
        let via = match output {
            _ if output.contains("open failed") => " (from the jump host)",
            _ if output.contains("UNKNOWN port") && !node.jump.is_empty() => " (at a jump host)",
            _ => "",
        };
        let error = ProviderError::new(pattern.class, format!("cannot connect to {place}: {}{via}", pattern.reason));
        return ProviderError { code: pattern.code(), ..error.help(pattern.help) };
    }
    if is_drop(output) {
        return ProviderError::new(Class::Unreachable, format!("cannot connect to {place}: sshd drops the connection"))
            .code(error_codes::CONNECTION_FAILED)
            .help("sshd limits simultaneous connections (MaxStartups) and blocks clients that failed often (PerSourcePenalties): wait, or lower --parallelism");
    }
    let last = output.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("ssh reported no reason");
    ProviderError::new(Class::Unreachable, format!("cannot connect to {place}: {last}"))
        .code(error_codes::CONNECTION_FAILED)
        .help("connect by hand with `ssh -v` to see the reason")
}

fn changed_host_key(node: &Node, output: &str) -> ProviderError {
    let now = fingerprint_in(output).map(|f| format!(" (now {f})")).unwrap_or_default();
    let error = ProviderError::new(Class::Identity, format!("the host key of {} has changed{now}", place(node)))
        .code(error_codes::HOST_KEY_CHANGED);
    if node.host_keys.is_empty() {
        let name = &node.name;
        return error.help(format!(
            "if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then run: moorfast node trust {name}"
        ));
    }
    error
        .help("if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then set host_key to it")
        .attribute("host_key")
}

fn unknown_host_key(node: &Node, output: &str) -> ProviderError {
    let name = &node.name;
    let whose = match output.contains(&format!("known for {name} ")) || node.jump.is_empty() {
        true => format!("the host key of {} is not known yet", place(node)),
        false => format!("the host key of a jump host of {} is not known yet", place(node)),
    };
    ProviderError::new(Class::Identity, whose)
        .code(error_codes::HOST_KEY_UNKNOWN)
        .help(format!("trust it with: moorfast node trust {name} (or pin it with host_key in [nodes.{name}])"))
}

fn fingerprint_in(output: &str) -> Option<&str> {
    let start = output.find("SHA256:")?;
    output[start..].split_whitespace().next().map(|word| word.trim_end_matches('.'))
}

fn place(node: &Node) -> String {
    let name = &node.name.0;
    let port = node.port.map(|p| format!(" port {p}")).unwrap_or_default();
    let jump = match node.jump.as_slice() {
        [] => String::new(),
        hops => format!(" through {}", hops.join(", ")),
    };
    match node.address == *name {
        true => format!("{name}{port}{jump}"),
        false => format!("{name} ({}{port}{jump})", node.address),
    }
}

/// Returns the error of sudo on `node`, if its output has one.
pub(crate) fn from_sudo(node: &Node, output: &[String]) -> Option<ProviderError> {
    let has = |text: &str| output.iter().any(|line| line.contains(text));
    let user = node.user.as_deref().unwrap_or("the login user");
    let name = &node.name;
    let (why, help) = if has("sudo: not found") || has("sudo: command not found") || has("sudo: No such file") {
        (
            "sudo is not installed",
            format!("install sudo on {name}, log in as root (user = \"root\"), or set sudo = false"),
        )
    } else if has("must have a tty") {
        (
            "sudo requires a terminal (requiretty)",
            format!("remove `Defaults requiretty` from the sudoers of {name}, or add: Defaults:{user} !requiretty"),
        )
    } else if has("a password is required") || has("a terminal is required") {
        (
            "sudo requires a password",
            format!(
                "permit sudo without a password: echo \"{user} ALL=(ALL) NOPASSWD: ALL\" > /etc/sudoers.d/{user} on {name}"
            ),
        )
    } else if has("is not in the sudoers file") || has("is not allowed to") || has("may not run sudo") {
        ("sudo does not permit this user", format!("add {user} to the sudoers of {name}"))
    } else {
        return None;
    };
    Some(
        ProviderError::new(Class::Denied, format!("cannot become root on {name}: {why}"))
            .code(error_codes::NO_ROOT)
            .detail(output.to_vec())
            .help(help),
    )
}

/// Returns the step at which a connection failed with this error.
pub(crate) fn failed_need(error: &ProviderError) -> Need {
    if error.class == Class::Identity || error.attribute.as_deref() == Some("host_key") {
        return Need::HostKey;
    }
    let has = |pattern: &&FailurePattern| error.detail.iter().any(|line| line.contains(pattern.text));
    PATTERNS.iter().find(has).map_or(Need::Connection, |pattern| pattern.need)
}

/// Returns the error that a file of moorfast cannot be used.
pub(super) fn unusable(path: &Path, error: &io::Error) -> ProviderError {
    ProviderError::new(Class::Failed, format!("cannot use {}: {error}", path.display()))
}

/// Returns the error that ssh itself cannot be started.
pub(super) fn no_ssh(error: &io::Error) -> ProviderError {
    ProviderError::new(Class::Failed, format!("cannot start ssh: {error}"))
        .help("install the OpenSSH client on this machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_of_a_pinned_fingerprint_is_not_a_failed_connection() {
        let failed = |output: &str| {
            let failure = ConnectFailure { output: output.to_owned(), timed_out: None };
            (failure.is_about_host_key(), failure.is_drop())
        };
        let old = "/tmp/x/config: line 9: Bad configuration option: knownhostscommand\n/tmp/x/config: terminating, 1 bad configuration options";
        let container = "KnownHostsCommand-ORDER: setresgid 1002: Operation not permitted\nKnownHostsCommand failed";
        for output in [old, container, "Host key verification failed."] {
            assert_eq!(failed(output), (true, false), "{output}");
        }
        assert_eq!(failed("kex_exchange_identification: read: Connection reset by peer"), (false, true));
    }

    #[test]
    fn sudo_that_requires_a_terminal_is_distinguished_from_one_that_requires_a_password() {
        let node = Node { user: Some("ops".to_owned()), ..Node::new("n1") };
        let why = |output: &str| {
            let error = from_sudo(&node, &[output.to_owned()]).unwrap();
            format!("{}; {}", error.summary, error.help.unwrap())
        };
        let terminal = why("sudo: sorry, you must have a tty to run sudo");
        assert_eq!(
            terminal,
            "cannot become root on n1: sudo requires a terminal (requiretty); remove `Defaults requiretty` from the sudoers of n1, or add: Defaults:ops !requiretty"
        );
        assert!(why("sudo: a password is required").contains("sudo requires a password"));
    }
}

//! What ssh and sudo say when they fail, told apart.

use std::time::Duration;

use moorfast_engine::{Class, Node, ProviderError};

use crate::duration;

/// A sort of failure of ssh: how its message is recognised and what becomes of it.
struct Sort {
    says: &'static str,
    class: Class,
    /// Completes "cannot connect to NODE (ADDRESS): ".
    why: &'static str,
    help: &'static str,
}

/// In order: the first that is found in what ssh said wins.
const SORTS: &[Sort] = &[
    Sort {
        says: "UNPROTECTED PRIVATE KEY FILE",
        class: Class::Denied,
        why: "ssh refuses a private key that other users can read",
        help: "restrict its permissions: chmod 600 KEYFILE",
    },
    Sort {
        says: "Too many authentication failures",
        class: Class::Denied,
        why: "the server refused too many keys",
        help: "name the right key: set identity_file on the node, or IdentitiesOnly in your ssh_config",
    },
    Sort {
        says: "Permission denied (",
        class: Class::Denied,
        why: "the key is refused",
        help: "check user and identity_file in the manifest, the keys that `ssh-add -l` lists, and authorized_keys on the node",
    },
    Sort {
        says: "Could not resolve hostname",
        class: Class::Unreachable,
        why: "the host name does not exist",
        help: "check the address of the node",
    },
    Sort {
        says: "Connection refused",
        class: Class::Unreachable,
        why: "connection refused",
        help: "check that sshd runs on the node, and that the port is right",
    },
    Sort {
        says: "No route to host",
        class: Class::Unreachable,
        why: "no route to host",
        help: "check that the node is up, and whether it needs a jump host",
    },
    Sort {
        says: "Network is unreachable",
        class: Class::Unreachable,
        why: "network is unreachable",
        help: "check the network of this machine, and whether the node needs a jump host",
    },
    Sort {
        says: "administratively prohibited",
        class: Class::Denied,
        why: "the jump host does not permit forwarding",
        help: "set AllowTcpForwarding yes in the sshd_config of the jump host",
    },
    Sort {
        says: "timed out",
        class: Class::Unreachable,
        why: "the node does not answer",
        help: "check that the node is up, and whether a firewall drops the connection",
    },
    Sort {
        says: "too long for Unix domain socket",
        class: Class::Failed,
        why: "the path of the control socket is too long",
        help: "set XDG_RUNTIME_DIR to a private directory with a short path",
    },
    Sort {
        says: "ad configuration option",
        class: Class::Failed,
        why: "your ssh_config has an option that this ssh does not know",
        help: "run `ssh -G HOST` by hand to see the option",
    },
];

/// What sshd does when too many connections come at once.
const DROPS: &[&str] = &[
    "kex_exchange_identification: Connection closed by",
    "kex_exchange_identification: read: Connection reset",
    "kex_exchange_identification: banner line contains invalid characters",
    "Exceeded MaxStartups",
    "Connection closed by UNKNOWN port",
    "Connection reset by peer",
];

/// A connection that did not come about: what ssh said, and the time it had if that was not enough.
#[derive(Clone, Debug)]
pub(super) struct Unconnected {
    pub(super) said: String,
    pub(super) late: Option<Duration>,
}

impl Unconnected {
    /// Whether the connection was dropped before anything was said, so that it is worth trying again.
    pub(super) fn is_drop(&self) -> bool {
        self.late.is_none() && is_drop(&self.said)
    }

    /// The failure of a connection to `node`.
    pub(super) fn error(&self, node: &Node) -> ProviderError {
        match self.late {
            None => from_ssh(node, &self.said),
            Some(limit) => ProviderError::new(
                Class::Unreachable,
                format!("cannot connect to {}: no session after {}", place(node), duration::shown(limit)),
            )
            .help("check that sshd answers at this address and port; `connect_timeout` in [providers.ssh] gives a slow host more time")
            .detail(self.said.lines().map(str::trim).filter(|line| !line.is_empty())),
        }
    }
}

/// Was the connection dropped before anything was said, so that it is worth trying again?
fn is_drop(said: &str) -> bool {
    !said.contains("ost key verification failed")
        && SORTS.iter().all(|sort| !said.contains(sort.says))
        && DROPS.iter().any(|drop| said.contains(drop))
}

/// The failure of a connection to `node`, from what ssh said.
fn from_ssh(node: &Node, said: &str) -> ProviderError {
    let lines = said.lines().map(str::trim).filter(|l| !l.is_empty() && !l.chars().all(|c| c == '@'));
    let error = match said {
        _ if said.contains("HOST IDENTIFICATION HAS CHANGED") => changed(node, said),
        _ if said.contains("ost key verification failed") => unknown(node, said),
        _ => sorted(node, said),
    };
    error.detail(lines)
}

fn sorted(node: &Node, said: &str) -> ProviderError {
    let place = place(node);
    if let Some(sort) = SORTS.iter().find(|sort| said.contains(sort.says)) {
        let via = match said {
            _ if said.contains("open failed") => " (from the jump host)",
            _ if said.contains("UNKNOWN port") && !node.jump.is_empty() => " (at a jump host)",
            _ => "",
        };
        return ProviderError::new(sort.class, format!("cannot connect to {place}: {}{via}", sort.why)).help(sort.help);
    }
    if is_drop(said) {
        return ProviderError::new(Class::Unreachable, format!("cannot connect to {place}: sshd drops the connection"))
            .help("sshd limits simultaneous connections (MaxStartups) and blocks clients that failed often (PerSourcePenalties): wait, or lower --parallelism");
    }
    let last = said.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("ssh reported no reason");
    ProviderError::new(Class::Unreachable, format!("cannot connect to {place}: {last}"))
        .help("connect by hand with `ssh -v` to see the reason")
}

fn changed(node: &Node, said: &str) -> ProviderError {
    let now = fingerprint_in(said).map(|f| format!(" (now {f})")).unwrap_or_default();
    let error = ProviderError::new(Class::Identity, format!("the host key of {} has changed{now}", place(node)));
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

fn unknown(node: &Node, said: &str) -> ProviderError {
    let name = &node.name;
    let whose = match said.contains(&format!("known for {name} ")) || node.jump.is_empty() {
        true => format!("the host key of {} is not known yet", place(node)),
        false => format!("the host key of a jump host of {} is not known yet", place(node)),
    };
    ProviderError::new(Class::Identity, whose)
        .help(format!("trust it with: moorfast node trust {name} (or pin it with host_key in [nodes.{name}])"))
}

fn fingerprint_in(said: &str) -> Option<&str> {
    let start = said.find("SHA256:")?;
    said[start..].split_whitespace().next().map(|word| word.trim_end_matches('.'))
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

/// The failure of sudo on `node`, if `said` has one.
pub(crate) fn from_sudo(node: &Node, said: &[String]) -> Option<ProviderError> {
    let has = |text: &str| said.iter().any(|line| line.contains(text));
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
            .detail(said.to_vec())
            .help(help),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_that_requires_a_terminal_is_distinguished_from_one_that_requires_a_password() {
        let node = Node {
            name: moorfast_engine::NodeName("n1".to_owned()),
            address: "n1".to_owned(),
            user: Some("ops".to_owned()),
            port: None,
            identity_file: None,
            jump: Vec::new(),
            host_keys: Vec::new(),
            transport: moorfast_engine::Transport::Ssh,
            sudo: true,
            roles: Vec::new(),
            vars: Default::default(),
        };
        let why = |said: &str| {
            let error = from_sudo(&node, &[said.to_owned()]).unwrap();
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

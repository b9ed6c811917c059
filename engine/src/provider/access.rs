//! The findings of an access check: what a provider needs of a target, and whether the target has it.

use super::ProviderError;

/// What a provider needs of a target. The order is that of a check: later needs can be checked only if the earlier ones are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The address of a node resolves.
    Address,
    /// The target accepts a connection.
    Connection,
    /// The host key of a node is known, and the node shows it.
    HostKey,
    /// The target accepts the user.
    Login,
    /// The user can become root, if the inventory asks for it.
    Root,
    /// The node has a POSIX shell that runs scripts.
    Shell,
    /// The node has the programs of coreutils and the few others that scripts use.
    Programs,
    /// The node runs systemd.
    Systemd,
    /// The node has a supported package manager.
    PackageManager,
    /// The clock of the target agrees with the clock of this machine.
    Clock,
    /// The target has free disk space.
    Disk,
    /// The node has a machine-id that no other node has.
    MachineId,
    /// The version of the software of the target.
    Version,
    /// The user has the permissions that the manifest needs.
    Permissions,
}

impl Need {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Need::Address => "address",
            Need::Connection => "connection",
            Need::HostKey => "host key",
            Need::Login => "login",
            Need::Root => "root",
            Need::Shell => "shell",
            Need::Programs => "programs",
            Need::Systemd => "systemd",
            Need::PackageManager => "package manager",
            Need::Clock => "clock",
            Need::Disk => "disk",
            Need::MachineId => "machine-id",
            Need::Version => "version",
            Need::Permissions => "permissions",
        }
    }
}

/// The finding about one need of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The need.
    pub need: Need,
    /// What was found, in a few words, or why the need is not met and how to fix that.
    pub result: Result<String, ProviderError>,
}

impl Finding {
    /// Returns the finding that a need is met.
    pub fn met(need: Need, found: impl Into<String>) -> Self {
        Self { need, result: Ok(found.into()) }
    }

    /// Returns the finding that a need is not met.
    pub fn unmet(need: Need, error: ProviderError) -> Self {
        Self { need, result: Err(error) }
    }
}

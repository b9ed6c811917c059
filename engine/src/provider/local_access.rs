//! What reading a data source does on the machine where moorfast runs.

/// What reading a data source does on the machine where moorfast runs, instead of reading a node or a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalAccess {
    /// Runs a program that the manifest names, or a program with input from the manifest.
    Command,
    /// Sends a request to a server that the manifest names.
    Request,
    /// Reads the state of another site.
    State,
}

impl LocalAccess {
    /// Returns the effect in the words of a refusal: "runs no command of the manifest".
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::Command => "runs no command of the manifest on this machine",
            Self::Request => "sends no request of the manifest",
            Self::State => "reads no state of another site",
        }
    }
}

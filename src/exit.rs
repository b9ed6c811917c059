//! The exit codes. `docs/exit-codes.md` is generated from them; a test checks that it is up to date.

use std::process::ExitCode;

/// The result of a command, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded. With `--detailed-exitcode`, there are also no changes.
    Success,
    /// The command failed. The error is on standard error.
    Error,
    /// There are changes (`plan --detailed-exitcode`), drift (`drift`) or findings (`node check`).
    Changes,
    /// `fmt --check` found files that are not formatted.
    Unformatted,
    /// The saved or reviewed plan is stale: the manifest, an input, the state or an object changed.
    StalePlan,
    /// `drift`, `node check`: a target does not answer, so its status is unknown.
    Unreachable,
    /// `drift`, `node check`: another machine or cluster answers, so the status of the recorded one is unknown.
    Identity,
    /// Ctrl-C, SIGTERM or SIGHUP ended the run. Finished operations are recorded.
    Interrupted,
    /// The reader of standard output closed it.
    OutputClosed,
}

impl Exit {
    /// All results, ordered by exit code.
    pub const ALL: [Exit; 9] = [
        Exit::Success,
        Exit::Error,
        Exit::Changes,
        Exit::Unformatted,
        Exit::StalePlan,
        Exit::Unreachable,
        Exit::Identity,
        Exit::Interrupted,
        Exit::OutputClosed,
    ];

    /// Returns the exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Error => 1,
            Exit::Changes => 2,
            Exit::Unformatted => 3,
            Exit::StalePlan => 4,
            Exit::Unreachable => 5,
            Exit::Identity => 6,
            Exit::Interrupted => 130,
            Exit::OutputClosed => 141,
        }
    }

    /// Returns the worse of two results of `drift`. From worst to best: an error, another identity, unreachable, drift, in sync.
    pub fn worse(self, other: Self) -> Self {
        const WORST_FIRST: [Exit; 4] = [Exit::Identity, Exit::Unreachable, Exit::Changes, Exit::Success];
        let rank = |exit| WORST_FIRST.iter().position(|one| *one == exit).map_or(0, |at| at + 1);
        if rank(other) < rank(self) { other } else { self }
    }

    /// Returns the description of the exit code in the documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "Success. `plan --detailed-exitcode`: no changes. `drift`: in sync.",
            Exit::Error => {
                "Error; the message is on standard error. Also a wrong command line, an apply that was not approved, and a plan that a policy denies."
            }
            Exit::Changes => {
                "`plan --detailed-exitcode`: there are changes. `drift`: there is drift. `node check`: there are findings."
            }
            Exit::Unformatted => "`fmt --check`: some files are not formatted.",
            Exit::StalePlan => {
                "The reviewed plan is stale. Either the manifest, an input, a variable or the state changed, and nothing was applied; or some objects changed, and these were not touched."
            }
            Exit::Unreachable => {
                "`drift`, `node check`: a target does not answer, or the server that answers is not an API server (a login page, a gateway). The status of its objects is unknown."
            }
            Exit::Identity => {
                "`drift`, `node check`: another node or cluster answers, with another host key, machine-id or certificate authority; or the host key of a node is not known yet. The status of its objects is unknown."
            }
            Exit::Interrupted => "Interrupted by Ctrl-C, SIGTERM or SIGHUP. Finished operations are recorded.",
            Exit::OutputClosed => "The reader of standard output closed it, as in `moorfast show | head -1`.",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Returns the reference page of the exit codes, in Markdown.
pub fn reference() -> String {
    let mut page = "# Exit codes\n\n| code | meaning |\n|---|---|\n".to_owned();
    for exit in Exit::ALL {
        page.push_str(&format!("| {} | {} |\n", exit.code(), exit.meaning()));
    }
    page + "\nIf several codes apply to a run of `drift` or `node check`, it exits with the first of 1, 6, 5, 2, 0.\n\nThe codes of `plan` and `fmt --check`, and the codes 0, 1 and 2, are the same as Terraform's. The others are specific to moorfast.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_two_results_wins() {
        let worst_first = [Exit::Error, Exit::Identity, Exit::Unreachable, Exit::Changes, Exit::Success];
        for (i, worse) in worst_first.into_iter().enumerate() {
            for better in &worst_first[i..] {
                assert_eq!((worse.worse(*better), better.worse(worse)), (worse, worse));
            }
        }
    }
}

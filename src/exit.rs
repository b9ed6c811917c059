//! The exit codes. `docs/exit-codes.md` tells the same; a test keeps them in step.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked to; with `--detailed-exitcode`: and there is nothing to change.
    Success,
    /// It failed; what was wrong is on standard error.
    Error,
    /// There are changes (`plan --detailed-exitcode`) or drift (`drift`).
    Changes,
    /// `fmt --check` found files that are not formatted.
    Unformatted,
    /// The plan does not fit the manifest, its inputs, the state or some objects any more.
    StalePlan,
    /// A target does not answer, so `drift` can't say whether it drifted.
    Unreachable,
    /// A node is not the machine it was, so `drift` can't say what drifted on the one that is meant.
    Identity,
    /// Ctrl-C, SIGTERM or SIGHUP ended it; what was done is recorded.
    Interrupted,
    /// Whoever read the output stopped reading.
    OutputClosed,
}

impl Exit {
    /// Every way to end, in the order of the codes.
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

    /// The number that the shell sees.
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

    /// Of two ways in which `drift` may end the one that is worse: where something went wrong nothing can be relied on, where another machine answers
    /// less can be than where none does, and where none does less than where drift was seen.
    pub fn worse(self, other: Self) -> Self {
        const WORST_FIRST: [Exit; 4] = [Exit::Identity, Exit::Unreachable, Exit::Changes, Exit::Success];
        let rank = |exit| WORST_FIRST.iter().position(|one| *one == exit).map_or(0, |at| at + 1);
        if rank(other) < rank(self) { other } else { self }
    }

    /// What it means, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "Success. With `--detailed-exitcode`: and nothing to change. For `drift`: in sync.",
            Exit::Error => {
                "Failure; what was wrong is on standard error. Also a wrong command line, an apply that was declined, and a plan that a policy denies."
            }
            Exit::Changes => "There are changes (`plan --detailed-exitcode`) or there is drift (`drift`).",
            Exit::Unformatted => "`fmt --check` found files that are not formatted.",
            Exit::StalePlan => {
                "The reviewed plan does not fit any more: the manifest, an input, a variable or the state changed and nothing was done, or some objects changed and were left alone."
            }
            Exit::Unreachable => {
                "`drift`: a target does not answer, or what answers is not an API server (a login page, a gateway). The status of its objects is unknown."
            }
            Exit::Identity => {
                "`drift`: a node or cluster is not the one it was: another host key, machine-id or certificate authority answers."
            }
            Exit::Interrupted => "Ended by Ctrl-C, SIGTERM or SIGHUP; what was done is recorded.",
            Exit::OutputClosed => "Whoever read the output stopped reading, as in `moorfast show | head -1`.",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The page of the exit codes, in Markdown.
pub fn reference() -> String {
    let mut page = "# Exit codes\n\n| code | meaning |\n|---|---|\n".to_owned();
    for exit in Exit::ALL {
        page.push_str(&format!("| {} | {} |\n", exit.code(), exit.meaning()));
    }
    page + "\nOf several that fit an end of `drift` the first of these is it: 1, 6, 5, 2, 0.\n\n`plan`, `fmt --check` and the codes 0, 1 and 2 are Terraform's; the others are moorfast's own.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_ends_the_worse_counts() {
        let worst_first = [Exit::Error, Exit::Identity, Exit::Unreachable, Exit::Changes, Exit::Success];
        for (i, worse) in worst_first.into_iter().enumerate() {
            for better in &worst_first[i..] {
                assert_eq!((worse.worse(*better), better.worse(worse)), (worse, worse));
            }
        }
    }
}

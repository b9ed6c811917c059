//! Questions about a node. All questions of one topic are answered together, by a constant number of processes, however many resources ask.

/// What a question asks. The questions are asked in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Topic {
    /// The kind, mode, owner and size of the object at a path, and the target of a link: `Findings::status`.
    Path,
    /// The SHA-256 of the regular file at a path, together with [`Topic::Path`]: `Findings::digest`.
    Digest,
    /// The content of the regular file at a path, if it is small: `Findings::content`.
    Content,
    /// The lines of the blocks of moorfast in the regular file at a path, together with [`Topic::Path`]: `Findings::blocks`.
    Blocks,
    /// Whether objects can be created in a directory: `Findings::directory`.
    Directory,
    /// Whether even root cannot write the object at a path: `Findings::closed`.
    Closed,
    /// The line of a user in the database of accounts: `Findings::account`, `Findings::is_missing`.
    User,
    /// The line of a group in the database of groups: `Findings::account`, `Findings::is_missing`.
    Group,
    /// The groups of a user: `Findings::groups_of`.
    Membership,
    /// A kernel module, by its name in the kernel: `Findings::module`.
    Module,
    /// The installed version of a package: `Findings::version`.
    Package,
    /// The status of a systemd unit: `Findings::unit`.
    Unit,
    /// The value of a kernel parameter, now and at boot: `Findings::parameter`.
    Parameter,
}

/// A question about a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Question {
    /// What it asks.
    pub(crate) topic: Topic,
    /// The path or the name that it asks about.
    pub(crate) name: String,
}

impl Topic {
    /// Returns the question of this topic about `name`.
    pub(crate) fn of(self, name: impl Into<String>) -> Question {
        Question { topic: self, name: name.into() }
    }

    /// Returns shell that answers the questions about the positional parameters.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::Path => include_str!("question/path.sh"),
            Self::Digest => include_str!("question/digest.sh"),
            Self::Content => include_str!("question/content.sh"),
            Self::Blocks => include_str!("question/blocks.sh"),
            Self::Directory => include_str!("question/directory.sh"),
            Self::Closed => include_str!("question/closed.sh"),
            Self::User => concat!("DB=passwd\n", include_str!("question/account.sh")),
            Self::Group => concat!("DB=group\n", include_str!("question/account.sh")),
            Self::Membership => include_str!("question/membership.sh"),
            Self::Module => include_str!("question/module.sh"),
            Self::Package => include_str!("question/package.sh"),
            Self::Parameter => include_str!("question/parameter.sh"),
            Self::Unit => concat!(include_str!("resource/unit/status.sh"), include_str!("question/unit.sh")),
        }
    }

    /// Returns the largest number of questions in one section.
    pub(crate) fn limit(self) -> usize {
        match self {
            // The answer of a section is bounded, and one file must not cost another one its answer.
            Self::Content | Self::Blocks => 1,
            _ => usize::MAX,
        }
    }
}

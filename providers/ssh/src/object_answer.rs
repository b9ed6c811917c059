//! The answers about one object: of its own shell, and of the questions about its node.

use crate::findings::Findings;
use crate::script::Section;
use crate::sources::Sources;

/// What a look at an object found so far.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// The fields that the type's own shell reported.
    pub(crate) own: &'a Section,
    /// The answers to the questions about the node.
    pub(crate) node: &'a Findings,
    /// The local files that are sent to nodes.
    pub(crate) sources: &'a Sources,
}

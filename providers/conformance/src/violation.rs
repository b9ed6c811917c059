//! The laws, and the report that one is broken.

use std::fmt;

/// A law that every provider keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// The declarations are complete: every type carries the name of its provider, and every type and attribute is documented.
    Declarations,
    /// Unknown values pass validation.
    UnknownValues,
    /// A valid manifest passes validation, and can be planned.
    Valid,
    /// An invalid manifest is rejected, and the message names the attribute.
    Rejected,
    /// A plan and a read change nothing.
    ReadsChangeNothing,
    /// An apply makes every planned change.
    Applied,
    /// A read after an apply shows what was planned, by the manifest and by the record alone.
    ReadShowsPlan,
    /// A second plan is empty.
    SecondPlanIsEmpty,
    /// A change made outside moorfast shows as drift, and the next apply corrects it.
    DriftIsDetected,
    /// After an import, the plan is empty.
    ImportedPlanIsEmpty,
    /// A destroy removes the objects, and a destroy of an object that is already gone succeeds.
    Destroyed,
    /// A sensitive value is in no plan, no record, no message and no file that moorfast writes for itself.
    SensitiveIsHidden,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Law::Declarations => "the declarations are complete",
            Law::UnknownValues => "unknown values pass validation",
            Law::Valid => "a valid manifest can be planned",
            Law::Rejected => "an invalid manifest is rejected with the attribute named",
            Law::ReadsChangeNothing => "a plan and a read change nothing",
            Law::Applied => "an apply makes every planned change",
            Law::ReadShowsPlan => "a read after an apply shows what was planned",
            Law::SecondPlanIsEmpty => "a second plan is empty",
            Law::DriftIsDetected => "a change made outside moorfast shows as drift and is corrected",
            Law::ImportedPlanIsEmpty => "the plan after an import is empty",
            Law::Destroyed => "a destroy succeeds, also of what is already gone",
            Law::SensitiveIsHidden => "a sensitive value is never shown or stored",
        })
    }
}

/// A law that a provider breaks.
#[derive(Clone, PartialEq)]
pub struct Violation {
    /// The broken law.
    pub law: Law,
    /// What the test saw instead.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(law: Law, detail: impl Into<String>) -> Self {
        Self { law, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken law `{}`: {}", self.law, self.detail)
    }
}

/// The same text as `Display`, because `unwrap` in a test prints this one.
impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}

//! Codes of errors that have a page.

use std::fmt;

/// The code of an error that `moorfast explain CODE` explains.
///
/// [`error_codes`](crate::error_codes) declares codes, each once and with its page. The message says what happened; the page explains what it means and how to
/// fix it.
#[derive(Clone, Copy)]
pub struct ErrorCode(&'static ErrorPage);

/// A code with its page in Markdown. Its first line is `# CODE: title`.
#[doc(hidden)]
pub struct ErrorPage {
    pub code: &'static str,
    pub text: &'static str,
}

impl ErrorCode {
    #[doc(hidden)]
    pub const fn new(page: &'static ErrorPage) -> Self {
        Self(page)
    }

    /// Returns the code: `M0104`.
    pub fn as_str(self) -> &'static str {
        self.0.code
    }

    /// Returns the page in Markdown.
    pub fn page(self) -> &'static str {
        self.0.text
    }

    /// Returns the title of the page: `unknown attribute`.
    pub fn title(self) -> &'static str {
        let heading = self.page().lines().next().unwrap_or_default();
        heading.split_once(": ").map_or(heading, |(_, title)| title)
    }
}

impl PartialEq for ErrorCode {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ErrorCode {}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares error codes as constants, and `ALL`, the list of them. The page of a code is `errors/CODE.md` beside the file of the declaration.
#[macro_export]
macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: $crate::model::ErrorCode = $crate::model::ErrorCode::new(&$crate::model::ErrorPage {
                code: $code,
                text: include_str!(concat!("errors/", $code, ".md")),
            });
        )*
        /// All codes of this list.
        pub const ALL: &[$crate::model::ErrorCode] = &[$($name),*];
    };
}

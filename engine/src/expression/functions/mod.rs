//! The functions of expressions: one table for calls, suggestions and the documentation.

mod age;
mod arguments;
mod call;
mod collection;
mod convert;
mod encoding;
mod examples;
mod filesystem;
mod hash;
mod kubernetes;
mod network;
mod number;
mod set;
mod string;
mod text_encoding;
mod time;
mod version_skew;
mod yaml;

use std::sync::LazyLock;

use hcl::edit::expr::FuncName;

use super::Unresolved;
use crate::model::{Value, nearest};
use arguments::Arguments;
pub(crate) use set::set;

/// A function that expressions may call.
#[derive(Debug)]
pub struct Function {
    /// The name.
    pub name: &'static str,
    /// The chapter of the documentation.
    pub family: Family,
    /// The parameters in order. `name?` is optional, `name...` is repeatable.
    pub parameters: &'static [&'static str],
    /// The description in one line of Markdown.
    pub doc: &'static str,
    body: Body,
}

/// A chapter of the functions' documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Numbers.
    Number,
    /// Text.
    String,
    /// Lists and maps.
    Collection,
    /// JSON, YAML, TOML, base64 and the like.
    Encoding,
    /// Files beside the manifest.
    Filesystem,
    /// Digests.
    Hash,
    /// IP addresses and networks.
    Network,
    /// Times and durations.
    Time,
    /// Types, errors and marks of values.
    Conversion,
}

/// The implementation of a function, and the form in which it receives its arguments.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// Receives known values without marks. If an argument is unknown or sensitive, so is the result.
    Plain(fn(&Arguments) -> Result<Value, CallError>),
    /// Receives collections whose inner values may be unknown or sensitive.
    Outer(fn(&Arguments) -> Result<Value, CallError>),
    /// Receives the arguments unchanged.
    Raw(fn(&Arguments) -> Result<Value, CallError>),
    /// Is implemented by the evaluator.
    Lazy(Lazy),
}

/// A function that the evaluator implements.
#[derive(Clone, Copy, Debug)]
enum Lazy {
    Can,
    Try,
    Templatefile,
    Templatestring,
}

/// The error of a function call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CallError {
    /// The message contains no value of an argument.
    Plain(String),
    /// The message may contain a value, so it is not shown if an argument is sensitive.
    Quoting(String),
}

/// Creates an error whose message contains no value.
fn plain_error(message: impl Into<String>) -> CallError {
    CallError::Plain(message.into())
}

/// Creates an error whose message may contain a value.
fn quoting_error(message: impl Into<String>) -> CallError {
    CallError::Quoting(message.into())
}

impl Family {
    /// All families in the order of the documentation.
    pub const ALL: [Family; 9] = [
        Family::String,
        Family::Collection,
        Family::Number,
        Family::Encoding,
        Family::Filesystem,
        Family::Hash,
        Family::Network,
        Family::Time,
        Family::Conversion,
    ];

    /// Returns the title in the documentation.
    pub fn title(self) -> &'static str {
        match self {
            Family::Number => "Numbers",
            Family::String => "Strings",
            Family::Collection => "Lists and maps",
            Family::Encoding => "Encoding",
            Family::Filesystem => "Files",
            Family::Hash => "Digests",
            Family::Network => "Networks",
            Family::Time => "Times",
            Family::Conversion => "Types and marks",
        }
    }
}

/// The functions of Terraform that do not exist here, with the reason.
pub const MISSING: [(&str, &str); 10] = [
    ("bcrypt", "its result differs in every plan; pass the digest as a variable"),
    ("ephemeralasnull", "there are no ephemeral values; `sensitive` values are not stored"),
    ("map", "write the map: `{ key = value }`"),
    (
        "plantimestamp",
        "its result differs in every plan; use `plan.timestamp` in a policy, and pass the time as a variable elsewhere",
    ),
    ("provider::terraform::decode_tfvars", "write variables as TOML in a `*.vars.toml` file"),
    ("provider::terraform::encode_expr", "use `jsonencode`, whose text is a valid expression"),
    ("provider::terraform::encode_tfvars", "use `tomlencode`"),
    (
        "rsadecrypt",
        "a private key does not belong in a manifest; use `age_decrypt`, or decrypt the text first and pass it as a variable",
    ),
    (
        "timestamp",
        "its result differs in every plan; use `plan.timestamp` in a policy, and pass the time as a variable elsewhere",
    ),
    ("uuid", "its result differs in every plan; use `uuidv5`, which depends only on its arguments"),
];

/// Returns all functions, sorted by name.
pub fn functions() -> &'static [Function] {
    static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
        let families = [
            age::functions(),
            collection::functions(),
            convert::functions(),
            encoding::functions(),
            filesystem::functions(),
            hash::functions(),
            kubernetes::functions(),
            version_skew::functions(),
            network::functions(),
            number::functions(),
            set::functions(),
            string::functions(),
            time::functions(),
        ];
        let mut all: Vec<Function> = families.into_iter().flatten().collect();
        all.sort_by_key(|function| function.name);
        all
    });
    &FUNCTIONS
}

/// Returns the function of this name.
pub(super) fn find(name: &FuncName) -> Result<&'static Function, Unresolved> {
    let text = match name.is_namespaced() {
        true => {
            let parts = name.namespace.iter().chain([&name.name]).map(|part| part.as_str());
            parts.collect::<Vec<_>>().join("::")
        }
        false => name.name.as_str().to_owned(),
    };
    let found = functions().binary_search_by_key(&text.as_str(), |function| function.name);
    found.ok().and_then(|at| functions().get(at)).ok_or_else(|| {
        let missing = MISSING.iter().find(|(name, _)| *name == text);
        let nearest = || nearest(&text, functions().iter().map(|function| function.name));
        let help = match missing.map_or_else(|| Err(nearest()), |(_, reason)| Ok(reason)) {
            Ok(reason) => (*reason).to_owned(),
            Err(Some(nearest)) => format!("did you mean `{nearest}`?"),
            Err(None) => "`moorfast explain functions` lists the functions".to_owned(),
        };
        Unresolved::new(format!("unknown function `{text}`")).help(help)
    })
}

impl Function {
    /// Returns the signature: `join(separator, lists...)`.
    pub fn signature(&self) -> String {
        format!("{}({})", self.name, self.parameters.join(", "))
    }

    /// Returns an expression with a call of the function.
    pub fn example(&self) -> &'static str {
        let example = examples::EXAMPLES.iter().find(|(name, _)| *name == self.name);
        example.map_or("", |(_, expression)| expression)
    }

    /// Checks the number of arguments.
    pub(super) fn accepts(&self, count: usize) -> Result<(), Unresolved> {
        let ends = |suffix: &'static str| self.parameters.iter().filter(move |name| name.ends_with(suffix)).count();
        let (optional, variadic) = (ends("?"), ends("..."));
        let (least, most) = (self.parameters.len() - optional - variadic, self.parameters.len());
        if count >= least && (variadic > 0 || count <= most) {
            return Ok(());
        }
        let problem = if count < least { "too few" } else { "too many" };
        Err(Unresolved::new(format!("`{}` has {problem} arguments", self.name))
            .help(format!("its signature is `{}`", self.signature())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_terraform_exists_or_is_documented_as_missing() {
        const TERRAFORM: &str = "abs abspath alltrue anytrue base64decode base64encode base64gzip base64sha256 base64sha512 basename bcrypt can \
            ceil chomp chunklist cidrhost cidrnetmask cidrsubnet cidrsubnets coalesce coalescelist compact concat contains csvdecode dirname \
            distinct element endswith ephemeralasnull file filebase64 filebase64sha256 filebase64sha512 fileexists filemd5 fileset filesha1 \
            filesha256 filesha512 flatten floor format formatdate formatlist indent index issensitive join jsondecode jsonencode keys length \
            list log lookup lower map matchkeys max md5 merge min nonsensitive one parseint pathexpand plantimestamp pow range regex regexall \
            replace reverse rsadecrypt sensitive setintersection setproduct setsubtract setunion sha1 sha256 sha512 signum slice sort split \
            startswith strcontains strrev substr sum templatefile templatestring textdecodebase64 textencodebase64 timeadd timecmp timestamp \
            title tobool tolist tomap tonumber toset tostring transpose trim trimprefix trimspace trimsuffix try type upper urlencode uuid \
            uuidv5 values yamldecode yamlencode zipmap";
        for name in TERRAFORM.split_whitespace() {
            let exists = functions().iter().any(|function| function.name == name);
            let is_missing = MISSING.iter().any(|(missing, _)| *missing == name);
            assert!(exists != is_missing, "{name}");
        }
    }

    #[test]
    fn every_function_exists_once_and_is_documented() {
        let names: Vec<_> = functions().iter().map(|function| function.name).collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique);
        for function in functions() {
            assert!(function.doc.ends_with('.'), "{}", function.name);
        }
    }
}

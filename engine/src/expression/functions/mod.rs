//! The functions of expressions: one table, from which calls, suggestions and the documentation are made.

mod arguments;
mod call;
mod collection;
mod convert;
mod encoding;
mod filesystem;
mod hash;
mod network;
mod number;
mod set;
mod string;
mod text_encoding;
mod time;
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
    /// Its name.
    pub name: &'static str,
    /// Where the documentation puts it.
    pub family: Family,
    /// Its parameters, in order; `name?` may be left out, `name...` may be given any number of times.
    pub parameters: &'static [&'static str],
    /// What it does, in one line of Markdown.
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

/// What a function sees of its arguments.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// Known values, no marks: where any of it is unknown or sensitive, so is the result.
    Plain(fn(&Arguments) -> Result<Value, CallError>),
    /// Collections that are known at their top: what is in them is passed on as it is.
    Outer(fn(&Arguments) -> Result<Value, CallError>),
    /// Everything as it is.
    Raw(fn(&Arguments) -> Result<Value, CallError>),
    /// Unevaluated arguments: the evaluator does it itself.
    Lazy(Lazy),
}

/// The functions that the evaluator does itself.
#[derive(Clone, Copy, Debug)]
enum Lazy {
    Can,
    Try,
    Templatefile,
    Templatestring,
}

/// Why a function refuses its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CallError {
    /// The message tells of types and places only.
    Plain(String),
    /// The message may quote a value: it is not shown where an argument is sensitive.
    Quoting(String),
}

/// A fault whose message quotes no value.
fn plain_error(message: impl Into<String>) -> CallError {
    CallError::Plain(message.into())
}

/// A fault whose message may quote a value.
fn quoting_error(message: impl Into<String>) -> CallError {
    CallError::Quoting(message.into())
}

impl Family {
    /// The families, in the order of the documentation.
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

    /// Its title in the documentation.
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

/// The functions of Terraform that do not exist here, and why.
pub const MISSING: [(&str, &str); 10] = [
    ("bcrypt", "its result differs in every plan, so no plan would be empty; pass the digest in as a variable"),
    ("ephemeralasnull", "there are no ephemeral values; `sensitive` values are not stored"),
    ("map", "write the map: `{ key = value }`"),
    ("plantimestamp", "an attribute that depends on the clock differs in every plan; policies read `plan.timestamp`"),
    ("provider::terraform::decode_tfvars", "write variables as TOML, in a `*.vars.toml` file"),
    ("provider::terraform::encode_expr", "use `jsonencode`, whose text is a valid expression"),
    ("provider::terraform::encode_tfvars", "use `tomlencode`"),
    ("rsadecrypt", "a private key does not belong in a manifest; decrypt the text before and pass it in as a variable"),
    ("timestamp", "an attribute that depends on the clock differs in every plan; policies read `plan.timestamp`"),
    (
        "uuid",
        "its result differs in every plan, so no plan would be empty; use `uuidv5`, which depends on its arguments only",
    ),
];

/// All functions, by name.
pub fn functions() -> &'static [Function] {
    static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
        let families = [
            collection::functions(),
            convert::functions(),
            encoding::functions(),
            filesystem::functions(),
            hash::functions(),
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

/// The function of this name.
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
            Err(None) => "docs/functions.md lists the functions".to_owned(),
        };
        Unresolved { summary: format!("unknown function `{text}`"), help: Some(help) }
    })
}

impl Function {
    /// How it is called: `join(separator, list)`.
    pub fn signature(&self) -> String {
        format!("{}({})", self.name, self.parameters.join(", "))
    }

    /// Does it take this many arguments?
    pub(super) fn accepts(&self, count: usize) -> Result<(), Unresolved> {
        let ends = |suffix: &'static str| self.parameters.iter().filter(move |name| name.ends_with(suffix)).count();
        let (optional, variadic) = (ends("?"), ends("..."));
        let (least, most) = (self.parameters.len() - optional - variadic, self.parameters.len());
        if count >= least && (variadic > 0 || count <= most) {
            return Ok(());
        }
        let problem = if count < least { "too few" } else { "too many" };
        Err(Unresolved {
            summary: format!("`{}` has {problem} arguments", self.name),
            help: Some(format!("its signature is `{}`", self.signature())),
        })
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
    fn every_function_is_there_once_and_documented() {
        let names: Vec<_> = functions().iter().map(|function| function.name).collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique);
        for function in functions() {
            assert!(function.doc.ends_with(['.', '?']), "{}", function.name);
        }
    }
}

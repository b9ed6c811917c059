//! `ssh_archive`: an archive, unpacked into a directory.

use std::time::Duration;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Class, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, ResourceType,
    TargetKind,
};
use serde_json::json;

use super::{Resource, Step, absolute, parent, propose, text, texts, written};
use crate::script::{Section, quote, quote_all};
use crate::secrets::Secrets;
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_archive`.
pub(crate) struct Archive;

/// The forms of archives: what a name ends with, and the option by which tar unpacks it; none for zip.
const FORMS: &[(&str, Option<&str>)] = &[
    (".tar", Some("")),
    (".tar.gz", Some("-z")),
    (".tgz", Some("-z")),
    (".tar.xz", Some("-J")),
    (".txz", Some("-J")),
    (".tar.bz2", Some("-j")),
    (".tar.zst", Some("--zstd")),
    (".zip", None),
];

/// Unpacks the zip `$Z` into `$S`.
const UNZIP: &str = r#"[ -n "$(command -v unzip)" ] || fail failed 'there is no unzip (install it with ssh_package)'
unzip -q -o -d "$S" -- "$Z"
while [ "$strip" -gt 0 ]; do
  mkdir -- "$S.up"
  for A in "$S"/*/* "$S"/*/.[!.]*; do [ ! -e "$A" ] || mv -f -- "$A" "$S.up"; done
  rm -rf -- "$S"; mv -fT -- "$S.up" "$S"; strip=$((strip - 1))
done"#;

/// Shell functions for a directory that another may own: `planted PATH` tells a link that is neither root's nor ours, `inside NAME` a name that leads to what is
/// below `$P`, through no such link.
const GUARDS: &str = r#"planted() { [ -L "$1" ] && case $(stat -c %u -- "$1") in 0|"$(id -u)") false ;; esac; }
inside() {
  case "/$1/" in */../*) return 1 ;; esac
  B=$1
  while case $B in */*) ;; *) false ;; esac; do B=${B%/*}; if planted "$P/$B"; then return 1; fi; done
}
names() { sed -n 's/^[^*]*\*//p'; }"#;

/// Prepares the change of `$P` to what is in `$S`, and changes nothing in it. Lists for the marker: regular files as sha256sum checks them, others by name
/// alone, directories that the archive makes. What did not come from this archive is never replaced by something of another kind.
const PREPARE: &str = r#"[ -n "$(find "$S" -mindepth 1 -print -quit)" ] || {
  printf %s 'lower strip_components, or correct include: no name in the archive is left' | blob help
  fail invalid 'nothing in the archive is unpacked'
}
if [ -f "$M" ] && [ ! -L "$M" ]; then tail -n +2 -- "$M" > "$S.was"; else : > "$S.was"; fi
names < "$S.was" > "$S.old"
came() { grep -qxF -- "$1" "$S.old"; }
stays() { [ -d "$P/$1" ] && { [ ! -L "$P/$1" ] || ! came "$1"; }; }
in_the_way() { fail conflict "$P/${1#./} is in the way: the archive has a $2 there, and this did not come from it"; }
( cd -- "$S"; find . -mindepth 1 -type d -exec stat -c '%a %u:%g %n/' -- {} + ) | while read -r B O A; do
  A=${A%/}
  if planted "$P/$A"; then fail conflict "$P/${A#./} is a symbolic link of somebody else: nothing is written through it"; fi
  if stays "$A"; then
    came "$A" || continue
  elif [ -e "$P/$A" ] || [ -L "$P/$A" ]; then
    came "$A" || in_the_way "$A" directory
  fi
  printf '%s\n' "$B $O $A/"
done > "$S.made"
find "$S" -type d ! -perm -u=rwx -exec chmod u+rwx -- {} +
( cd -- "$S"; find . ! -type d ) | while IFS= read -r A; do
  [ -d "$P/$A" ] && [ ! -L "$P/$A" ] || continue
  came "$A" || [ -n "$(find "$P/$A" ! -type d -print -quit)" ] || in_the_way "$A" file
  ( cd -- "$P"; find "$A" ! -type d ) | while IFS= read -r B; do came "$B" || in_the_way "$B" 'file above it'; done
done
( cd -- "$S"
  find . -type f -exec sha256sum -b -- {} +
  find . ! -type f ! -type d | while IFS= read -r A; do printf 'other *%s\n' "$A"; done
  while read -r _ _ A; do printf 'made *%s\n' "${A%/}"; done < "$S.made"
) > "$S.list"
names < "$S.list" > "$S.new"
kept() { grep -qxF -- "$1" "$S.new"; }
{ grep -vxFf "$S.new" -- "$S.old" || true; } | while IFS= read -r A; do
  B=$A
  while case $B in ./*/*) ;; *) false ;; esac; do
    B=${B%/*}
    if [ -L "$S/$B" ] || [ -f "$S/$B" ]; then continue 2; fi
  done
  printf '%s\n' "$A"
done > "$S.gone""#;

/// Writes the marker. Until all is in place it lists what there may be: the old and the new, and that it is not finished.
const MARK: &str = r#"mark() { opened "$P"; trap clean EXIT; cat >&6; chmod 0644 /proc/self/fd/6; sync -- /proc/self/fd/6; exec 6>&-; mv -fT -- "$T" "$M"; }"#;

/// Moves what is in `$S` to its place. Directories get their modes and owners last: they may forbid to write in them.
const MOVE: &str = r#"( cd -- "$S"; find . -mindepth 1 -type d ) | while IFS= read -r A; do
  if planted "$P/$A"; then fail conflict "$P/${A#./} is a symbolic link of somebody else: nothing is written through it"; fi
  stays "$A" || { rm -f -- "$P/$A"; mkdir -m 0700 -- "$P/$A"; }
done
( cd -- "$S"; find . ! -type d ) | while IFS= read -r A; do
  if [ -d "$P/$A" ] && [ ! -L "$P/$A" ]; then
    ( cd -- "$P"; find "$A" ! -type d ) | while IFS= read -r B; do if came "$B"; then rm -f -- "$P/$B"; fi; done
    find "$P/$A" -depth -type d -exec rmdir -- {} +
  fi
  mv -fT -- "$S/$A" "$P/$A"
done"#;

/// Gives the directories that the archive makes their owners and modes, the deepest first.
const SETTLE: &str = r#"sort -r -k 3 -- "$S.made" | while read -r B O A; do
  ( held "$P/${A%/}"; chown -- "$O" /proc/self/fd/6; chmod -- "00$B" /proc/self/fd/6 )
done"#;

/// Removes the files that the list `$1` names, and then the directories that are empty and not `kept`. Links go first: no other name of the list may lead
/// through one of them.
const REMOVE: &str = r#"remove() {
  while IFS= read -r A; do if inside "$A" && [ -L "$P/$A" ]; then rm -f -- "$P/$A"; fi; done < "$1"
  while IFS= read -r A; do if inside "$A" && [ ! -d "$P/$A" ]; then rm -f -- "$P/$A"; fi; done < "$1"
  while IFS= read -r A; do
    inside "$A" || continue
    while [ "$A" != . ] && ! kept "$A"; do
      if [ -d "$P/$A" ] && [ ! -L "$P/$A" ]; then rmdir -- "$P/$A" 2>/dev/null || break; fi
      A=${A%/*}
    done
  done < "$1"
}"#;

/// Checks whether all that the marker lists is there as it was unpacked.
const INTACT: &str = r#"intact() (
  cd -- "$P" || exit 1
  tail -n +2 -- "$M" | while IFS= read -r L; do
    A=${L#*\*}
    case $L in
    'unfinished '*) exit 1 ;;
    'other '*) [ -e "$A" ] || [ -L "$A" ] || exit 1 ;;
    'made '*) [ -d "$A" ] || exit 1 ;;
    esac
  done || exit 1
  ! grep -q '^\\\{0,1\}[0-9a-f]\{64\} ' -- "$M" || tail -n +2 -- "$M" | sha256sum -c --quiet --status - 2>/dev/null
)"#;

impl Resource for Archive {
    fn resource_type(&self) -> ResourceType {
        let schema = Schema::new(
            "An archive, unpacked into a directory. It is unpacked beside and moved into place file by file; files of an older version are removed after that. \
             Directories that it makes have the modes of the archive; directories that exist already keep theirs. A file or directory that did not come from it is never replaced by something of another kind. \
             The marker `.moorfast-archive-NAME` in the directory remembers the checksum and the files; a file that is missing or was changed makes it unpack again. \
             A destroy removes the files that came from it and the directories that are empty then.",
            [
                Attribute::required(
                    "path",
                    Kind::String,
                    "The directory to unpack into: an absolute path. It is made where it is missing.",
                )
                .replaces(),
                Attribute::optional(
                    "name",
                    Kind::String,
                    "Tells several archives in one directory apart: letters, digits, `-` and `_`.",
                )
                .or("archive")
                .replaces(),
                Attribute::optional(
                    "source",
                    Kind::String,
                    "The archive on this machine. A relative path starts at the folder of the manifest. Exactly one of `source` and `url` is written.",
                ),
                Attribute::optional(
                    "url",
                    Kind::String,
                    "Where the node fetches the archive from, with curl or wget; may be sensitive.",
                ),
                Attribute::required(
                    "sha256",
                    Kind::String,
                    "The SHA-256 of the archive, 64 hexadecimal digits. Nothing else is unpacked.",
                ),
                Attribute::optional(
                    "format",
                    Kind::OneOf(&["tar", "tar.gz", "tar.xz", "tar.bz2", "tar.zst", "zip"]),
                    "What it is. Default: what the name of the source ends with.",
                ),
                Attribute::optional(
                    "strip_components",
                    Kind::Integer,
                    "How many leading directories of the names in it are left out.",
                )
                .or(0),
                Attribute::optional(
                    "include",
                    Kind::list(Kind::String),
                    "Only these members of a tar archive, by their full names in it. Default: all.",
                ),
                Attribute::optional(
                    "owner",
                    Kind::String,
                    "The user that owns the files, by name or number. Default: the user that moorfast acts as.",
                ),
                Attribute::optional("group", Kind::String, "Their group, as of `owner`."),
                Attribute::computed("intact", Kind::Bool, "Are all its files there as they were unpacked?"),
            ],
        );
        ResourceType { name: "ssh_archive", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = |attribute, message: &str, help: &str| Invalid {
            attribute,
            message: message.to_owned(),
            help: Some(help.to_owned()),
        };
        let mut found: Vec<Invalid> = absolute(attributes, "path").into_iter().collect();
        if written(attributes, "source") == written(attributes, "url") {
            found.push(invalid(None, "an archive has one source", "write exactly one of `source` and `url`"));
        }
        if let Some(sum) = text(attributes, "sha256")
            && !is_sha256(sum)
        {
            found.push(invalid(
                Some("sha256"),
                "this is no SHA-256",
                "64 hexadecimal digits, as sha256sum prints them",
            ));
        }
        if let Some(name) = text(attributes, "name")
            && (name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        {
            found.push(invalid(Some("name"), "this can't be a part of a file name", "letters, digits, `-` and `_`"));
        }
        let known = ["source", "url"].iter().any(|name| text(attributes, name).is_some());
        if known && form(attributes).is_none() {
            found.push(invalid(Some("format"), "the name does not say what sort of archive it is", "write format"));
        }
        if attributes.get("strip_components").and_then(Value::as_i64).is_some_and(|n| n < 0) {
            found.push(invalid(Some("strip_components"), "there are no negative counts", "0 or more"));
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("archive:{}/{}", text(attributes, "path")?, text(attributes, "name").unwrap_or("archive")))
    }

    fn source(&self, attributes: &Attributes) -> Option<String> {
        text(attributes, "source").map(str::to_owned)
    }

    fn settings(&self) -> &'static [&'static str] {
        &["source", "url", "format", "strip_components", "include", "owner", "group"]
    }

    fn contents(&self) -> &'static [&'static str] {
        &["sha256", "intact"]
    }

    fn look(&self, subject: &Subject) -> String {
        format!(
            "{}
{INTACT}
if [ -f \"$M\" ] && [ ! -L \"$M\" ]; then
  read -r X < \"$M\"; field sha256 \"$X\"
  if intact; then field intact yes; fi
fi",
            places(subject)
        )
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let Some(sha256) = seen.field("sha256").filter(|sum| is_sha256(sum)) else { return Ok(None) };
        let mut attributes = Attributes::from([
            ("sha256".to_owned(), Value::from(sha256)),
            ("intact".to_owned(), Value::from(seen.is("intact"))),
        ]);
        for name in ["path", "name"] {
            if let Some(value) = subject.attributes.get(name) {
                attributes.insert(name.to_owned(), value.clone());
            }
        }
        Ok(Some(Observed { attributes, private: json!(null) }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if let Some(sum) = text(&planned, "sha256").map(str::to_lowercase) {
            planned.insert("sha256".to_owned(), Value::from(sum));
        }
        planned.insert("intact".to_owned(), Value::from(true));
        Ok(propose(self, request, planned))
    }

    fn act(&self, operation: &Operation, subject: &Subject, sources: &Sources) -> Result<Step, ProviderError> {
        let places = places(subject);
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(Step::long(format!(
                "{places}
{GUARDS}
kept() {{ false; }}
{REMOVE}
if [ -f \"$M\" ] && [ ! -L \"$M\" ]; then
  temporary \"${{TMPDIR:-/tmp}}\"; tail -n +2 -- \"$M\" | names > \"$T\"; remove \"$T\"
fi
rm -f -- \"$M\"
[ ! -d \"$P\" ] || rmdir -- \"$P\" 2>/dev/null || true"
            )));
        }
        let attributes = &subject.attributes;
        let sum = text(attributes, "sha256").unwrap_or_default().to_lowercase();
        let (fetch, upload) = match text(attributes, "source") {
            Some(name) => {
                let source = sources.get(name)?;
                if source.sha256 != sum {
                    let summary = format!(
                        "{} has another SHA-256 than the manifest says: {}",
                        source.path.display(),
                        source.sha256
                    );
                    return Err(ProviderError::new(Class::Invalid, summary).attribute("sha256"));
                }
                (format!("head -c {} <&3 > \"$Z\"; watch", source.size), Some((source.path.clone(), source.size)))
            }
            None => (fetch(text(attributes, "url").unwrap_or_default()), None),
        };
        let form =
            form(attributes).ok_or_else(|| ProviderError::new(Class::Invalid, "it is no known sort of archive"))?;
        let include = texts(attributes, "include");
        let include = quote_all(include.iter().map(String::as_str));
        let unpack = match form {
            Some(option) => format!(
                "tar -x {option} -p --no-same-owner --strip-components=\"$strip\" -C \"$S\" -f \"$Z\" -- {include}"
            ),
            None => UNZIP.to_owned(),
        };
        let body = format!(
            "{places}
{GUARDS}
{REMOVE}
{MARK}
made=
[ -d \"$P\" ] || {{ mkdir -p -- \"$P\"; made=yes; }}
clean() {{
  rm -rf -- \"$F\" \"$T\"
  [ -z \"$made\" ] || rmdir -- \"$P\" 2>/dev/null || true
}}
F=$(mktemp -u -- \"$P/.moorfast-XXXXXXXX\"); S=$F/s; Z=$F/archive; T=$F/none
trap clean EXIT
trap 'exit 143' TERM HUP INT
mkdir -m 0700 -- \"$F\"; mkdir -- \"$S\"
{fetch}
X=$(sha256sum < \"$Z\"); X=${{X%% *}}
[ \"$X\" = {sum} ] || fail failed \"the archive has another SHA-256 than the manifest says: $X\"
strip={strip}
{unpack}
{owner}
{PREPARE}
{{ printf '%s\\n' \"$X\" 'unfinished *./.moorfast-unfinished'; cat -- \"$S.was\" \"$S.list\"; }} > \"$S.mark\"
mark < \"$S.mark\"
{MOVE}
remove \"$S.gone\"
{SETTLE}
{{ printf '%s\\n' \"$X\"; cat -- \"$S.list\"; }} > \"$S.mark\"
mark < \"$S.mark\"",
            strip = attributes.get("strip_components").and_then(Value::as_i64).unwrap_or_default(),
            owner = owner(attributes),
        );
        Ok(Step {
            upload,
            limit: Some(Duration::from_secs(1800)),
            secrets: Secrets::of(attributes.get("url")),
            ..Step::long(body)
        })
    }
}

/// Shell variables: the directory and the marker in it.
fn places(subject: &Subject) -> String {
    let path = subject.text("path").unwrap_or_default();
    let marker = format!("{path}/.moorfast-archive-{}", subject.text("name").unwrap_or("archive"));
    format!("P={}; D={}; M={}", quote(path), quote(parent(path)), quote(&marker))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn form(attributes: &Attributes) -> Option<Option<&'static str>> {
    let ending = match text(attributes, "format") {
        Some(format) => format!(".{format}"),
        None => text(attributes, "source").or(text(attributes, "url"))?.split(['?', '#']).next()?.to_owned(),
    };
    FORMS.iter().filter(|(end, _)| ending.ends_with(end)).max_by_key(|(end, _)| end.len()).map(|(_, option)| *option)
}

/// Fetches `url` into `$Z`. It may hold a secret, so that no process has it in its arguments.
fn fetch(url: &str) -> String {
    let in_config = url.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    format!(
        "if [ -n \"$(command -v curl)\" ]; then printf '%s\\n' {} | curl -fsSL --retry 3 -o \"$Z\" --config -
elif [ -n \"$(command -v wget)\" ]; then printf '%s\\n' {} | wget -q -O \"$Z\" -i -
else fail failed 'there is neither curl nor wget (install one with ssh_package, or use source)'; fi",
        quote(&format!("url = \"{in_config}\"")),
        quote(url)
    )
}

/// Shell that gives what is unpacked to its owner. That takes the setuid and setgid bits of files away, so they are set again.
fn owner(attributes: &Attributes) -> String {
    let (owner, group) = (text(attributes, "owner").unwrap_or_default(), text(attributes, "group").unwrap_or_default());
    let to = match (owner, group) {
        ("", "") => return String::new(),
        (owner, "") => quote(owner),
        (owner, group) => quote(&format!("{owner}:{group}")),
    };
    format!(
        "find \"$S\" -type f -perm /6000 -exec stat -c '%a %n' -- {{}} + > \"$S.bits\"
chown -hR -- {to} \"$S\"
while read -r B A; do chmod -- \"$B\" \"$A\"; done < \"$S.bits\""
    )
}

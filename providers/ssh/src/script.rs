//! Scripts: what is asked of a node in one exec, and the framed answer.
//!
//! A script is a list of sections, each run by a subshell of its own, so that one that fails does not stop the others.
//! Whatever a node's shell profile or a chatty command prints goes to stderr: on stdout there are only lines that begin
//! with the nonce of this run.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::{Class, ProviderError};
use zeroize::{Zeroize, Zeroizing};

/// Functions for all sections. `N` is the nonce; 3 is what the controller still sends, 4 is where the answer goes.
///
/// `temporary` knows the name of its file before there is one, so that an end at any moment takes it along. Where somebody else owns the directory,
/// he may put a link at that name at any moment: `opened` is the same for what is written and changed only by what is open, as 6. `held` opens there what
/// already has that path, and no link.
/// Its name holds the machine and the script's pid, so that `sweep` finds what a script left behind that was killed; of what an older moorfast left the age decides.
/// `watch` ends everything that the script started when the controller goes away, which shows as the end of 3. `started` collects that in `S`, also in other
/// sessions and after its parent has ended: everything in the process group, every process that inherited `MOORFAST_RUN`, and their descendants.
const PRELUDE: &str = r#"export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
umask 022
exec 3<&0 4>&1 </dev/null >&2
read -r _ _ _ _ G _ < /proc/self/stat
{ read -r MACHINE < /etc/machine-id; } 2>/dev/null || MACHINE=
MACHINE=${MACHINE%????????????????????????}
read -r MOORFAST_RUN < /proc/sys/kernel/random/uuid
export MOORFAST_RUN
started() {
  S=" "
  for P in $(grep -lsF "MOORFAST_RUN=$MOORFAST_RUN" /proc/[0-9]*/environ); do P=${P#/proc/}; S="$S${P%/*} "; done
  B=
  while [ "$S" != "$B" ]; do
    B=$S
    for P in /proc/[0-9]*/stat; do
      read -r L < "$P" || continue
      P=${L%% *}; set -- ${L##*) }
      case $S in *" $P "*) continue ;; esac
      case $S in *" $2 "*) S="$S$P " ;; *) [ "$3" != "$G" ] || S="$S$P " ;; esac
    done
  done
}
end_all() {
  read -r I _ < /proc/self/stat
  started; A=$S
  for P in $A; do [ "$P" = "$I" ] || kill -TERM "$P"; done
  sleep 2
  for _ in 1 2 3; do
    started
    for P in $A $S; do [ "$P" = "$I" ] || kill -KILL "$P"; done
  done
}
watch() { ( trap '' TERM HUP; read -r _ <&3; end_all ) >/dev/null 2>&1 4>&- 6>&- & W=$!; }
trap 'exit 143' TERM HUP INT
begin() { printf '\n%s begin %s\n' "$N" "$1" >&4; printf '\n%s begin %s\n' "$N" "$1" >&2; }
done_with_it() { printf '\n%s done\n' "$N" >&4; printf '\n%s done\n' "$N" >&2; }
on_machine() {
  [ "$(cat /etc/machine-id 2>/dev/null)" = "$1" ] || { printf '\n%s elsewhere\n' "$N" >&4; done_with_it; exit 0; }
}
finish() { [ "$1" = 0 ] || field uid "$(id -u)"; printf '%s end %s\n' "$N" "$1" >&4; }
field() { printf '%s %s %s\n' "$N" "$1" "$2" >&4; }
blob() { { printf '%s %s ' "$N" "$1"; base64 | tr -d '\n'; echo; } >&4; }
note() { printf %s "$1" | blob note; }
fail() { field error "$1"; printf %s "$2" | blob summary; exit 1; }
kind() {
  K=$(stat -c %F -- "$1" 2>&1) || case $K in
    *'No such file'*|*'Not a directory'*) K=absent ;;
    *) fail denied "$K" ;;
  esac
}
sweep() {
  for LEFT in "$1"/.moorfast-????????; do
    [ ! -f "$LEFT" ] || [ -L "$LEFT" ] || find "$LEFT" -mmin +1440 -exec rm -f -- {} +
  done
  [ -n "$MACHINE" ] || return 0
  for LEFT in "$1/.moorfast-$MACHINE-"*.????????; do
    OWNER=${LEFT##*/.moorfast-"$MACHINE"-}; OWNER=${OWNER%.*}
    case $OWNER in ''|*[!0-9]*) continue ;; esac
    [ ! -f "$LEFT" ] || [ -L "$LEFT" ] || [ -d "/proc/$OWNER" ] || rm -f -- "$LEFT"
  done
}
opened() {
  sweep "$1" || true
  T=$(mktemp -u -- "$1/.moorfast-$MACHINE-$$.XXXXXXXX")
  trap 'rm -f -- "$T"' EXIT
  trap 'exit 143' TERM HUP INT
  umask 077; set -C; exec 6> "$T"; set +C; umask 022
}
temporary() { opened "$1"; exec 6>&-; }
held() {
  kind "$1"
  case $K in regular*|directory) ;; absent) fail failed 'the object no longer exists' ;; *) fail conflict "there is a $K at that path" ;; esac
  exec 6< "$1"
  [ "$(stat -L -c %d:%i /proc/self/fd/6)" = "$(stat -c %d:%i -- "$1")" ] || fail conflict 'the path was replaced by a symbolic link'
}
"#;

/// `text` as one word of a POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A command line of these arguments.
pub(crate) fn quote_all<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// What a person wrote for sh. It belongs into a subshell of its own: a mistake in it ends no more than that, and it sees none of the functions of the script.
pub(crate) fn written(line: &str) -> String {
    const FUNCTIONS: &str = "started end_all watch begin done_with_it on_machine finish field blob note fail kind sweep opened temporary held";
    format!("set +e; unset -f {FUNCTIONS}; eval {}", quote(line))
}

/// A shell command that prints `bytes`, without a process that has them in its arguments: printf is built in.
pub(crate) fn print_bytes(bytes: &[u8]) -> String {
    format!("printf %s {} | base64 -d", quote(&STANDARD.encode(bytes)))
}

/// A script in the making.
pub(crate) struct Script {
    nonce: String,
    body: Zeroizing<String>,
    sections: usize,
    watch: Watch,
}

/// When a script begins to end itself should the controller go away.
#[derive(Clone, Copy, PartialEq)]
enum Watch {
    AtOnce,
    /// When it has read what follows it.
    Received,
    /// It goes on to its end.
    Never,
}

impl Script {
    /// An empty script.
    pub(crate) fn new() -> Self {
        Self {
            nonce: format!("mf{:032x}", rand::random::<u128>()),
            body: Zeroizing::default(),
            sections: 0,
            watch: Watch::AtOnce,
        }
    }

    /// A script whose only section reads what follows it on 3, and calls `watch` when it has.
    pub(crate) fn receiving(body: &str) -> Self {
        Self { watch: Watch::Received, ..Self::of(body) }
    }

    /// A script of one section that must not be cut off: it goes on to its end also where the controller goes away.
    pub(crate) fn unstoppable(body: &str) -> Self {
        Self { watch: Watch::Never, ..Self::of(body) }
    }

    /// A script of one section.
    pub(crate) fn of(body: &str) -> Self {
        let mut script = Self::new();
        script.section(body);
        script
    }

    /// Adds a section. It runs under `set -e`.
    pub(crate) fn section(&mut self, body: &str) {
        let section = Zeroizing::new(format!("begin {}\n( set -e\n{body}\n)\nfinish $?\n", self.sections));
        self.body.push_str(&section);
        self.sections += 1;
    }

    /// How many sections there are.
    pub(crate) fn sections(&self) -> usize {
        self.sections
    }

    /// The whole text, as the node's shell gets it on stdin. With a machine-id it does nothing on a machine that has another one.
    pub(crate) fn text(&self, only_on: Option<&str>) -> Zeroizing<String> {
        let watch = if self.watch == Watch::AtOnce { "watch\n" } else { "" };
        let Self { nonce, body, .. } = self;
        let body = body.as_str();
        let guard = only_on.map(|id| format!("on_machine {}\n", quote(id))).unwrap_or_default();
        let end = "[ -z \"$W\" ] || kill -KILL \"$W\"\ndone_with_it\n";
        Zeroizing::new(format!("N={nonce}\n{PRELUDE}{guard}{watch}{body}{end}"))
    }

    /// Did the script find itself on another machine than the one it was for?
    pub(crate) fn is_elsewhere(&self, stdout: &[u8]) -> bool {
        self.framed(stdout).any(|words| words == ("elsewhere", ""))
    }

    /// The word that begins every line of the answer.
    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The sections of an answer, as far as it came.
    pub(crate) fn parse(&self, stdout: &[u8], stderr: &[u8]) -> Vec<Section> {
        let mut sections = vec![Section::default(); self.sections];
        let mut current = None;
        for words in self.framed(stdout) {
            match words {
                ("begin", index) => current = index.parse::<usize>().ok().filter(|i| *i < self.sections),
                ("end", status) => {
                    if let Some(section) = current.take().and_then(|i| sections.get_mut(i)) {
                        section.status = status.parse().ok();
                    }
                }
                (name, value) => {
                    if let Some(section) = current.and_then(|i| sections.get_mut(i)) {
                        section.fields.entry(name.to_owned()).or_default().push(value.to_owned());
                    }
                }
            }
        }
        self.share_out(stderr, &mut sections);
        sections
    }

    /// What was said on stderr before the first section: by a login shell, by sudo.
    pub(crate) fn before(&self, stderr: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(stderr);
        let end = text.find(&format!("{} begin 0", self.nonce)).unwrap_or(text.len());
        lines_of(&text[..end])
    }

    fn framed<'a>(&'a self, stdout: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = self.nonce.as_bytes();
        // Where the answer broke off the last line is half of one.
        stdout.split_inclusive(|b| *b == b'\n').filter_map(move |line| {
            let line = line.strip_prefix(prefix)?.strip_suffix(b"\n")?;
            let rest = std::str::from_utf8(line).ok()?.strip_prefix(' ')?;
            Some(rest.split_once(' ').unwrap_or((rest, "")))
        })
    }

    fn share_out(&self, stderr: &[u8], sections: &mut [Section]) {
        let text = String::from_utf8_lossy(stderr);
        for part in text.split(&format!("{} begin ", self.nonce)).skip(1) {
            let Some((index, said)) = part.split_once('\n') else { continue };
            let said = said.split(&format!("{} done", self.nonce)).next().unwrap_or_default();
            if let Some(section) = index.parse::<usize>().ok().and_then(|i| sections.get_mut(i)) {
                section.said = lines_of(said);
            }
        }
    }
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// What one section answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Its exit status; none while it has not ended.
    pub(crate) status: Option<i32>,
    /// What it said on stderr, without empty lines.
    pub(crate) said: Vec<String>,
    /// Why it did not end.
    pub(crate) cut_off: Option<ProviderError>,
    fields: BTreeMap<String, Vec<String>>,
}

/// A node may have said a secret: what is in a file.
impl Drop for Section {
    fn drop(&mut self) {
        self.fields.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Section {
    /// The value that `field NAME VALUE` gave.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.last().map(String::as_str)
    }

    /// Was there `field NAME yes`?
    pub(crate) fn is(&self, name: &str) -> bool {
        self.field(name) == Some("yes")
    }

    /// Whether the section failed although root ran it.
    pub(crate) fn failed_as_root(&self) -> bool {
        self.field("uid") == Some("0")
    }

    /// The bytes that went into `blob NAME`.
    pub(crate) fn blob(&self, name: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.field(name)?).ok()
    }

    /// The text that went into `blob NAME`.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.blob(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// All texts of `blob NAME`, in their order.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let values = self.fields.get(name).map(Vec::as_slice).unwrap_or_default();
        values
            .iter()
            .filter_map(|value| STANDARD.decode(value).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// The failure that `fail CLASS SUMMARY` told.
    pub(crate) fn failure(&self) -> Option<(Class, String)> {
        let class = match self.field("error")? {
            "denied" => Class::Denied,
            "conflict" => Class::Conflict,
            "invalid" => Class::Invalid,
            "timeout" => Class::Timeout,
            _ => Class::Failed,
        };
        Some((class, self.text("summary").unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &Script) -> Vec<Section> {
        use std::io::Write;
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg("echo noise; s=$(head -c \"$1\"); eval \"$s\"")
            .arg("sh")
            .arg(script.text(None).len().to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(script.text(None).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        script.parse(&output.stdout, &output.stderr)
    }

    #[test]
    fn a_failing_section_does_not_stop_the_next() {
        let mut script = Script::new();
        script.section("echo to stdout; ls /nowhere/at/all; field never reached");
        script.section("field answer 42; printf 'a\\nb' | blob text; note 'look here'");
        script.section("fail denied 'not yours'");
        let sections = run(&script);
        assert_ne!(sections[0].status, Some(0));
        assert_eq!(sections[0].said[0], "to stdout");
        assert_eq!(sections[0].field("never"), None);
        assert_eq!(sections[1].status, Some(0));
        assert_eq!(sections[1].field("answer"), Some("42"));
        assert_eq!(sections[1].text("text").unwrap(), "a\nb");
        assert_eq!(sections[1].texts("note"), ["look here"]);
        assert_eq!(sections[2].failure(), Some((Class::Denied, "not yours".to_owned())));
    }

    #[test]
    fn quoting_keeps_every_byte() {
        let text = "it's $HOME `x` \\ \"q\"\nnext";
        let mut script = Script::new();
        script.section(&format!("printf %s {} | blob back", quote(text)));
        assert_eq!(run(&script)[0].text("back").unwrap(), text);
    }
}

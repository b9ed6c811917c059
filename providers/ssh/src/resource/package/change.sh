# shellcheck shell=sh disable=SC2016,SC2034,SC2046,SC2086,SC2154
# Functions that change packages, for use after those of manager.sh, read.sh and transaction.sh. They read from variables what the manifest and the
# plan permit: `allow_downgrade` and `allow_held` (1 or empty), `removals` and `downgrades` (the packages whose removal or downgrade the plan showed),
# and `own` (the packages that moorfast installed, with their dependencies).
allowed="${allow_downgrade:+--allow-downgrades} ${allow_held:+--allow-change-held-packages}"
only=; [ -n "$removals" ] || only=--no-remove
holds=$(held)

# `is_in NAME NAME…` tests whether a name is one of others.
is_in() { W=$1; shift; case " $* " in *" $W "*) ;; *) return 1 ;; esac; }
is_own() { is_in "${1%%:*}" $own; }

# These print the packages of a transaction that the plan did not show, that become older, and that are held.
not_shown() {
  while read -r A P _; do case $A in
    -) is_in "$P" $removals || printf ' %s' "$P" ;;
    '<') is_in "$P" $downgrades || printf ' %s' "$P" ;;
  esac; done
}
older() { while read -r A P V _; do [ "$A" != '<' ] || printf ' %s' "$P $V"; done; }
on_hold() { while read -r A P _; do case $A in [-=\<]) ! is_in "$P" $holds || printf ' %s' "$P" ;; esac; done; }

# `refuse PACKAGES SUMMARY HELP` fails if there are such packages.
refuse() { [ -z "$1" ] || { printf %s "$3" | blob help; fail conflict "$2:$1"; }; }

# `review VERB NAME…` refuses a transaction beyond what is permitted.
review() {
  R=$(transaction "$@") || return 1
  [ -n "$allow_downgrade" ] || refuse "$(printf '%s\n' "$R" | older)" 'the installed version is newer' \
    'allow_downgrade = true permits the older version'
  refuse "$(printf '%s\n' "$R" | not_shown)" 'the change would remove or downgrade packages that the plan did not show' \
    'plan again, and review the changes of these packages'
  [ -n "$allow_held" ] || refuse "$(printf '%s\n' "$R" | on_hold)" 'the change affects packages that are held' \
    'allow_held = true permits the change; `apt-mark unhold` ends the hold'
}

# Installing a held package ends its hold.
hold_again() { [ -z "$holds" ] || installed $holds | while read -r A; do apt-mark hold "$A"; done; }

is_missing() { [ -z "$(version "$1")" ]; }
refuse_if() { for A in $names; do ! "$1" "$A" || fail invalid "$A is a virtual package: name a package that provides it"; done; }
report_new() { all | while IFS= read -r P; do is_in "$P" $before || printf '%s\n' "$P"; done | blob new; }
attempt() { review install "$@" && install "$@"; }

# `install_all NAME…` installs packages, whose names without versions are in `names`. At its end it reports the new packages, also if it fails half-way.
# With `cache_update` it refreshes the package lists first.
install_all() {
  finish_interrupted
  before=$(all)
  trap report_new EXIT
  [ -z "$cache_update" ] || refresh
  refuse_if is_virtual
  if ! X=$(attempt "$@" 2>&1); then
    case $X in
    *'Unable to locate'*|*'no installation candidate'*|*'was not found'*|*'Unable to fetch'*|*'404 '*|*'No match for'*)
      refresh; refuse_if is_virtual; attempt "$@" ;;
    *) printf '%s\n' "$X" >&2; exit 1 ;;
    esac
  fi
  hold_again
  refuse_if is_missing
}

# Purges packages, whoever installed them.
purge_all() {
  set -- $(installed "$@")
  if [ $# -gt 0 ]; then review purge "$@"; purge "$@"; fi
}

# Purges packages and their unneeded dependencies, and never a package that moorfast did not install.
remove_own() {
  set -- $(installed "$@")
  if [ $# -gt 0 ]; then
    others=$(for P in $(removed_by_purge "$@"); do is_own "$P" || printf ' %s' "$P"; done)
    [ -z "$others" ] || fail conflict "packages that moorfast did not install need them:$others"
    printf '%s\n' "$@" | blob gone
    purge "$@"
  fi
  set -- $(for P in $(unneeded); do ! is_own "$P" || printf '%s\n' "$P"; done)
  [ $# = 0 ] || purge "$@"
}

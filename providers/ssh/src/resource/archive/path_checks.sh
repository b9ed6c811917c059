# shellcheck shell=sh disable=SC2154
# Shell functions for a directory that may belong to another user: `foreign_link PATH` tests for a link that belongs neither to root nor to the script's user,
# `inside NAME` tests that a name leads to a path below `$P` and through no such link.
foreign_link() { [ -L "$1" ] && case $(stat -c %u -- "$1") in 0|"$(id -u)") false ;; esac; }
inside() {
  case "/$1/" in */../*) return 1 ;; esac
  B=$1
  while case $B in */*) ;; *) false ;; esac; do B=${B%/*}; if foreign_link "$P/$B"; then return 1; fi; done
}
# sha256sum begins a line with a backslash if it writes each backslash of the name twice.
names() { sed -n '/^\\/s/\\\\/\\/g; s/^[^*]*\*//p'; }

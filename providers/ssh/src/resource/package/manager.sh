# shellcheck shell=sh disable=SC2154,SC2086
# Shell functions for both package managers. `is_virtual NAME` tests for a virtual package, `all` prints the installed packages, `refresh` updates the package lists,
# `finish_interrupted` completes an interrupted run, `removed_by_purge` prints the packages that a purge would remove, `unneeded` those that no package needs.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
if [ -x /usr/bin/apt-get ]; then
  apt() { apt-get -y -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"; }
  is_virtual() {
    X=$(apt-cache show -- "$1" 2>/dev/null) && [ -z "$X" ] && [ -n "$(apt-cache showpkg -- "$1" 2>/dev/null | sed '1,/^Reverse Provides:/d')" ]
  }
  all() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | while read -r S P; do [ "$S" != installed ] || printf '%s\n' "$P"; done | sort -u; }
  refresh() {
    C=0
    until X=$(apt-get -q update 2>&1); do
      case $X in *'Could not get lock'*) C=$((C + 1)); [ "$C" -lt 60 ] || break; sleep 2 ;; *) break ;; esac
    done
    printf '%s\n' "$X" >&2
  }
  finish_interrupted() { [ -z "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ] || dpkg --configure -a; }
  install() { apt install $allowed $only -- "$@"; }
  purge() { apt purge $allowed -- "$@"; }
  removed_by_purge() { apt-get -s -q purge -- "$@" | while read -r A P _; do case $A in Remv|Purg) printf '%s\n' "$P" ;; esac; done | sort -u; }
  unneeded() { apt-get -s -q autoremove --purge | while read -r A P _; do case $A in Remv|Purg) printf '%s\n' "$P" ;; esac; done | sort -u; }
elif [ -x /usr/bin/dnf ]; then
  is_virtual() { false; }
  all() { rpm -qa --qf '%{NAME}\n' | sort -u; }
  refresh() { dnf -y -q makecache >&2 || true; }
  finish_interrupted() { :; }
  install() { dnf -y -q --allowerasing install -- "$@"; }
  purge() { dnf -y -q remove --setopt=clean_requirements_on_remove=False -- "$@"; }
  removed_by_purge() { transaction purge -- "$@" | while read -r _ P _; do printf '%s\n' "$P"; done; }
  unneeded() { dnf -q repoquery --unneeded --qf '%{name}' 2>/dev/null | sort -u; }
else
  fail failed 'the node has neither apt nor dnf'
fi

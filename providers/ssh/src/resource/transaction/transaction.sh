# shellcheck shell=sh disable=SC2154,SC2086
# Shell functions. `transaction VERB NAME…` prints what `install` or `purge` would do, one package per line: `+ NAME NEW`, `= NAME OLD NEW`, `< NAME OLD NEW` (a downgrade),
# `- NAME OLD`. If the package manager finds no solution, it fails and prints the reason on stderr. `held` prints the held packages.
if [ -x /usr/bin/apt-get ]; then
  transaction() {
    X=$(apt-get -s -q --allow-downgrades --allow-change-held-packages "$@" 2>&1) || { printf '%s\n' "$X" >&2; return 1; }
    printf '%s\n' "$X" | while read -r A P V N _; do
      V=${V#[}; V=${V%]}; N=${N#(}
      case $A in
      Remv|Purg) printf '%s\n' "- $P $V" ;;
      Inst) case $V in
        '('*) printf '%s\n' "+ $P ${V#(}" ;;
        *) if dpkg --compare-versions "$N" lt "$V"; then D='<'; else D='='; fi; printf '%s\n' "$D $P $V $N" ;;
        esac ;;
      esac
    done | sort -u
  }
  held() { apt-mark showhold 2>/dev/null || true; }
else
  transaction() {
    case $1 in purge) shift; set -- remove --setopt=clean_requirements_on_remove=False "$@" ;; esac
    X=$(dnf --assumeno --allowerasing "$@" 2>&1) || case $X in
    *'Operation aborted'*|*'Operation cancelled'*) ;;
    *) printf '%s\n' "$X" >&2; return 1 ;;
    esac
    printf '%s\n' "$X" | {
      D=; E=
      while IFS= read -r L; do
        case $L in
        'Installing:'*|'Installing '*:) D=+; E= ;;
        'Upgrading:'*|'Upgrading '*:|'Reinstalling:'*) D='='; E= ;;
        'Downgrading:'*|'Downgrading '*:) D='<'; E= ;;
        'Removing:'*|'Removing '*:) D=-; E= ;;
        'Transaction Summary'*|'') D= ;;
        ' '*)
          [ -n "$D" ] || continue
          set -f; set -- $E $L; set +f
          if [ "$1" = replacing ]; then [ "$D" != + ] || printf '%s\n' "- ${2%.*} $3"; continue; fi
          if [ $# -lt 5 ]; then E="$*"; continue; fi
          E=
          case $D in '<'|'=') printf '%s\n' "$D $1 $(rpm -q --qf '%{VERSION}-%{RELEASE}\n' -- "$1" | head -n 1) $3" ;; *) printf '%s\n' "$D $1 $3" ;; esac ;;
        esac
      done
    } | sort -u
  }
  held() { :; }
fi

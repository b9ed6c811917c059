# shellcheck shell=sh disable=SC2154,SC2164
# Shell functions that enter the `.ssh` folder of the account whose passwd line is `$X`. The account may replace files there by links at any moment: no target
# of such a link is read or changed.
H=${X%:*}; H=${H##*:}
plain() { kind "$1"; case $K in absent|"$2"*) ;; *) fail conflict "$3 is a $K: it is neither read nor written" ;; esac; }
enter() {
  kind "$H/.ssh/."
  cd -- "$H"; R=$(pwd -P)
  cd -- .ssh; [ "$(pwd -P)" = "${R%/}/.ssh" ] || fail conflict "$H/.ssh was replaced by a symbolic link"
  plain authorized_keys regular "$H/.ssh/authorized_keys"
}
plain "$H/.ssh" directory "$H/.ssh"

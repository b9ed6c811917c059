# shellcheck shell=sh
# Reports those of the accounts "$@" that the database $DB does not have.
missing() { for A do getent "$DB" -- "$A" >/dev/null || printf '%s\0' "$A"; done; }
getent "$DB" -- "$@" >/dev/null || report missing "$@"

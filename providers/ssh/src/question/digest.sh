# shellcheck shell=sh
# Reports the digests of those of the paths "$@" that are regular files.
regular() { for P do [ ! -f "$P" ] || [ -L "$P" ] || printf '%s\0' "$P"; done; }
digests() { regular "$@" | xargs -0 -r sha256sum -z --; }
report digests "$@"

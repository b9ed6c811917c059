# shellcheck shell=sh disable=SC2154,SC2086
# Defines a `rewrite` that comments out swap lines.
rewrite() { case $L in '#'*) printf '%s\n' "$L"; return ;; esac; set -f; set -- $L; set +f
  if [ "$3" = swap ]; then printf '# moorfast: %s\n' "$L"; else printf '%s\n' "$L"; fi; }

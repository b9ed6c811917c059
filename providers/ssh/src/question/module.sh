# shellcheck shell=sh
# Reports, for each of the kernel modules "$@", whether it is loaded or built in, and the file that loads it at boot. A built-in
# module without parameters appears only in modules.builtin, where its name may have a hyphen for an underscore.
modules() {
  B=$({ tr - _ < "/lib/modules/$(uname -r)/modules.builtin"; } 2>/dev/null || true)
  for O do
    L=
    if [ -d "/sys/module/$O" ]; then L=loaded; else case $B in *"/$O.ko"*) L=loaded ;; esac; fi
    F=/etc/modules-load.d/moorfast-$O.conf T=
    [ ! -f "$F" ] || while IFS= read -r X || [ -n "$X" ]; do T="$T$X|"; done < "$F"
    printf '%s\0%s\0%s\0' "$O" "$L" "$T"
  done
}
report modules "$@"

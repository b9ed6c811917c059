# shellcheck shell=sh disable=SC2154
# Removes the files of the list `$1`, and then the directories that are empty and not `kept`. Links are removed first, so that no other name of the list
# leads through one of them.
remove() {
  while IFS= read -r A; do if inside "$A" && [ -L "$P/$A" ]; then rm -f -- "$P/$A"; fi; done < "$1"
  while IFS= read -r A; do if inside "$A" && [ ! -d "$P/$A" ]; then rm -f -- "$P/$A"; fi; done < "$1"
  while IFS= read -r A; do
    inside "$A" || continue
    while [ "$A" != . ] && ! kept "$A"; do
      if [ -d "$P/$A" ] && [ ! -L "$P/$A" ]; then rmdir -- "$P/$A" 2>/dev/null || break; fi
      A=${A%/*}
    done
  done < "$1"
}

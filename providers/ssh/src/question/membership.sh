# shellcheck shell=sh
# Reports the groups of those of the users "$@" that exist, each as a line: the user and the numbers of the groups, the primary
# group first. And the names and numbers of these groups.
numbers() {
  if X=$(id -G -- "$@" 2>/dev/null); then
    for U do read -r L; printf '%s %s\n' "$U" "$L"; done <<END
$X
END
  else
    # Not every user exists, or `id` accepts only one, before coreutils 8.31.
    for U do if L=$(id -G -- "$U" 2>/dev/null); then printf '%s %s\n' "$U" "$L"; fi; done
  fi
}
X=$(numbers "$@")
printf %s "$X" | blob answer
[ -n "$X" ] || exit 0
# shellcheck disable=SC2046
getent group -- $(printf '%s\n' "$X" | cut -d ' ' -f 2- | tr ' ' '\n' | sort -u) | cut -d : -f 1,3 | blob groups

# shellcheck shell=sh
# Reports those of the accounts "$@" that the database $DB has, each with its line.
lines() {
  if X=$(getent "$DB" -- "$@"); then
    # The line of an alias begins with another name.
    for A do read -r L; printf '%s\0%s\0' "$A" "$L"; done <<END
$X
END
  else
    for A do if L=$(getent "$DB" -- "$A"); then printf '%s\0%s\0' "$A" "$L"; fi; done
  fi
}
report lines "$@"

# shellcheck shell=sh disable=SC2154
# Shell that reports the lines of /etc/fstab, what is mounted, and whether it is the file system of the manifest, and that of the line, if there is one.
find_mount
if is_mounted "$SOURCE" "$TYPE" "$OPTIONS"; then field wanted yes; fi
find_entry
printf %s "$ENTRIES" | blob entries
printf %s "$MOUNTED" | blob mounted
if is_mounted "$SOURCE" "$TYPE" "$OPTIONS"; then field same yes; fi

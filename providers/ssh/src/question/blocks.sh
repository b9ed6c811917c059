# shellcheck shell=sh
# Reports the lines of the blocks of moorfast in those of the paths "$@" that are regular files, with the marker lines.
blocks() {
  for P do
    if [ ! -f "$P" ] || [ -L "$P" ]; then continue; fi
    true < "$P" || continue
    printf '%s\0' "$P"
    sed -nE -e '/^(.* )?BEGIN moorfast [A-Za-z0-9._-]+\r?$/,/^(.* )?END moorfast [A-Za-z0-9._-]+\r?$/{p;d}' \
      -e '/^(.* )?END moorfast [A-Za-z0-9._-]+\r?$/p' -- "$P" | tr -d '\0'
    printf '\0'
  done
}
report blocks "$@"

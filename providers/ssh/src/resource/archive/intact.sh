# shellcheck shell=sh disable=SC2154
# Checks that all files of the marker are present and unchanged.
intact() (
  cd -- "$P" || exit 1
  tail -n +2 -- "$M" | while IFS= read -r L; do
    A=${L#*\*}
    case $L in
    'unfinished '*) exit 1 ;;
    'other '*) [ -e "$A" ] || [ -L "$A" ] || exit 1 ;;
    'made '*) [ -d "$A" ] || exit 1 ;;
    esac
  done || exit 1
  ! grep -q '^\\\{0,1\}[0-9a-f]\{64\} ' -- "$M" || tail -n +2 -- "$M" | sha256sum -c --quiet --status - 2>/dev/null
)

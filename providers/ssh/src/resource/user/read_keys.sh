# shellcheck shell=sh disable=SC2154
# Shell that reports the keys, and who can change them. If the keys cannot be read, that is an error, not an account without keys.
if [ "$K" != absent ]; then
  enter
  field folder_access "$(stat -c '%u %a' .)"
  if [ "$K" != absent ]; then
    field keys_access "$(stat -c '%u %a' authorized_keys)"
    dd if=authorized_keys iflag=nofollow count=0 status=none
    dd if=authorized_keys iflag=nofollow status=none | blob keys
  fi
fi

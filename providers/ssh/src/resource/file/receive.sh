# shellcheck shell=sh disable=SC2034
# Writes "$1" bytes from descriptor 3 to the file that is open as descriptor 6. `S` is their digest as sha256sum prints it, or
# begins with `unwritten` if they could not be written. The digest is computed while the bytes arrive.
S=$(
  # openssl uses the SHA instructions of the processor, which sha256sum often does not.
  digest() { sha256sum; }
  ! openssl dgst -sha256 -r </dev/null >/dev/null 2>&1 || digest() { openssl dgst -sha256 -r; }
  # tee ends before the digest is printed.
  { head -c "$1" <&3 | { tee --output-error=exit /proc/self/fd/6 || echo unwritten >&5; } | digest; } 5>&1
)

# shellcheck shell=sh
# The KnownHostsCommand of a connection to a node with pinned fingerprints. ssh passes the fingerprint of the offered key, the
# name of the node, the type of the key, and the key. If the file `pins` beside this script has the fingerprint, the script
# prints the key as a line of known_hosts, and keeps the line in the file `shown`.
while IFS= read -r PIN; do
  [ "$PIN" = "$1" ] || continue
  printf '%s %s %s\n' "$2" "$3" "$4"
  printf '%s %s %s\n' "$2" "$3" "$4" > "${0%/*}/shown"
done < "${0%/*}/pins"

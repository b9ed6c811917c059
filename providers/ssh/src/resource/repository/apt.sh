# shellcheck shell=sh disable=SC2154
# Shell function that reads the repository as apt will read it, with the new key, before anything is changed. The lists of other repositories stay.
read_repository() {
  print_file | sed "s|^Signed-By: .*|Signed-By: $NEW_KEY|" > "$X/moorfast.sources"
  C=0
  while ! R=$(apt-get -q update -o Dir::Etc::sourcelist="$X/moorfast.sources" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=0 2>&1); do
    case $R in *'Could not get lock'*) ;; *) break ;; esac
    C=$((C + 1)); [ "$C" -lt 60 ] || break
    sleep 2
  done
  # apt ends with success if it could use older lists.
  R=$(printf '%s\n' "$R" | grep -E '^(E:|W: (Failed to fetch|GPG error|Some index files failed|An error occurred))' || true)
  [ -z "$R" ] || { printf '%s\n' "$R" | blob detail; fail failed 'apt cannot read the repository'; }
}

# shellcheck shell=sh disable=SC2154
# Shell function that reads the repository as dnf will read it, with the new key, before anything is changed.
read_repository() {
  print_file | sed "s|^gpgkey=.*|gpgkey=file://$NEW_KEY|" > "$X/moorfast.repo"
  R=$(dnf -y -q --setopt=reposdir="$X" --setopt=*.skip_if_unavailable=False --repo="$ID" makecache --refresh 2>&1) ||
    { printf '%s\n' "$R" | blob detail; fail failed 'dnf cannot read the repository'; }
}

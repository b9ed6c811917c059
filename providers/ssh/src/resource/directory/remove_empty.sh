# shellcheck shell=sh disable=SC2154,SC2012
# Removes `$P` if it is empty.
if [ -d "$P" ]; then
  E=$(rmdir -- "$P" 2>&1) || case $E in
    *'not empty'*) ls -A -- "$P" | head -n 10; fail conflict 'the directory is not empty (force_destroy = true removes its content)' ;;
    *) fail failed "$E" ;;
  esac
fi

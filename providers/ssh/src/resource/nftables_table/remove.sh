# shellcheck shell=sh disable=SC2154
# Shell that removes the table with its file and its unit. The unit deletes the table when it stops.
if [ -f "$U" ]; then systemctl disable --now --quiet "${U##*/}"; fi
rm -f -- "$U" "$F"
rmdir -- "${F%/*}" 2>/dev/null || true
systemctl daemon-reload
if [ -n "$(command -v nft)" ] && live_table >/dev/null 2>&1; then nft delete table "$FAMILY" "$NAME"; fi

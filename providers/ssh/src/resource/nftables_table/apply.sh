# shellcheck shell=sh disable=SC2154
# Shell that writes the file and the unit, and replaces the table by that of the file in one step.
[ -n "$(command -v nft)" ] || fail failed 'nft is not installed (install the package nftables with ssh_package)'
X=$(print_table | nft -c -f - 2>&1) || { printf %s "$X" | blob detail; fail invalid 'nft refuses the rules'; }
mkdir -p "${F%/*}"
open_text "$F"; print_file >&6; save_text "$F"
X=$(nft -f "$F" 2>&1) || { printf %s "$X" | blob detail; fail failed 'the table could not be loaded'; }
open_text "$U"; print_unit >&6; save_text "$U"
systemctl daemon-reload
systemctl enable --quiet "${U##*/}"
systemctl start "${U##*/}"

# shellcheck shell=sh disable=SC2154
# Shell functions about the table "$FAMILY" "$NAME". `live_table` prints it as the kernel has it, without handles and counters.
live_table() { nft -s list table "$FAMILY" "$NAME"; }
# Prints the table of the manifest. Line 1 of the output is line 1 of the rules, so that the messages of nft name the lines of the manifest.
print_table() { printf 'table %s %s { ' "$FAMILY" "$NAME"; print_rules; printf '\n}\n'; }

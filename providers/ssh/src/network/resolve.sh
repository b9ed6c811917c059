# shellcheck shell=sh
# The addresses of $NAME, as programs of the node find them.
timeout "$LIMIT" getent ahosts "$NAME" | blob addresses

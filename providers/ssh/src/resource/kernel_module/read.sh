# shellcheck shell=sh disable=SC2154
# Shell that reports whether `$O` is loaded or built in. A built-in module without parameters appears only in modules.builtin.
if [ -d "/sys/module/$O" ]; then field loaded yes
elif grep -qE "/($O|$(echo "$O" | tr _ -))\.ko" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null; then field loaded yes
fi
if [ -f "$F" ]; then blob boot < "$F"; fi

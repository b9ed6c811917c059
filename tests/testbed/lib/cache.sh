# shellcheck shell=bash
# What is made once and shared by all testbeds: the nodes' base system, the
# package repository, the Kubernetes binaries. Each entry's name ends in a hash of
# what it is made from, so a changed list or recipe makes a new entry and never
# changes one that a running node is using. An entry is built beside its place and
# renamed into it: whoever sees it sees it whole.

CACHE=${MOORFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/moorfast}

# cache_key FILE... : the hash of the files' contents.
cache_key() { cat "$@" | sha256sum | cut -c1-12; }

# cache_fill ENTRY RECIPE : has RECIPE, a function, fill the directory ENTRY when
# it does not exist. One builder at a time; the second finds the work done.
cache_fill() (
	local entry=$1 recipe=$2 started=$SECONDS partial
	[[ ! -d $entry ]] || return 0
	lock "$CACHE/.lock"
	[[ ! -d $entry ]] || return 0
	rm -rf "$CACHE"/.partial-*
	partial=$(mktemp -d "$CACHE/.partial-XXXXXX")
	chmod 0755 "$partial"
	say "building $entry"
	# In the background, because bash ignores `set -e` in a command whose exit
	# status is tested, and a recipe must stop at its first error.
	"$recipe" "$partial" >"$CACHE/build.log" 2>&1 &
	wait $! || {
		tail -n 30 "$CACHE/build.log" | sed 's/^/    /' >&2
		die "$recipe failed, see $CACHE/build.log"
	}
	mv "$partial" "$entry"
	say "built $entry in $((SECONDS - started)) s"
)

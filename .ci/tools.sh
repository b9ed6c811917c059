# shellcheck shell=sh
# What building needs, for the scripts beside this one. Installs with apt where it may, else says what is missing.

say() { printf '%s\n' "$*" >&2; }

# may_install : are we root on a system with apt?
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# install PACKAGE... : from the distribution, or a message that asks for it.
install_packages() {
	if ! may_install; then
		say "missing: $*; please install it (with apt: sudo apt-get install $*)"
		exit 1
	fi
	say "installing $*"
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

need_cargo() {
	PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
	export PATH
	command -v cargo >/dev/null && return
	say "Rust is missing. Install it with rustup (https://rustup.rs), then run this again."
	exit 1
}

# need_compiler : SQLite, ring and others are compiled from C.
need_compiler() {
	command -v cc >/dev/null || install_packages gcc libc6-dev
}

# need_static : what compiles a binary that needs nothing of the system it runs on. A Rust from elsewhere than rustup may have it or not.
need_static() {
	command -v musl-gcc >/dev/null || install_packages musl-tools
	! command -v rustup >/dev/null || rustup --quiet target add x86_64-unknown-linux-musl >&2
}

# shellcheck shell=sh
# Functions that install what a build needs, with apt if possible, or print what is missing.

say() { printf '%s\n' "$*" >&2; }

# may_install : whether this is root on a system with apt.
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# install_packages PACKAGE... : installs packages of the distribution, or asks for them and exits.
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

# need_compiler : a C compiler, for SQLite, ring and others.
need_compiler() {
	command -v cc >/dev/null || install_packages gcc libc6-dev
}

# need_static : the tools and the target for a static binary. Without rustup the target cannot be added here.
need_static() {
	command -v musl-gcc >/dev/null || install_packages musl-tools
	! command -v rustup >/dev/null || rustup --quiet target add x86_64-unknown-linux-musl >&2
}

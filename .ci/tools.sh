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

# need_static TARGET : the tools and the target for a static binary. Without rustup the target cannot be added here.
need_static() {
	command -v musl-gcc >/dev/null || install_packages musl-tools
	! command -v rustup >/dev/null || rustup --quiet target add "$1" >&2
}

# cargo_tool NAME : puts a program of crates.io on PATH, in the version and with the features that this repository uses. It is built once and kept in a
# cache. Fails if it cannot be built.
cargo_tool() {
	case $1 in
	cargo-cyclonedx) set -- "$1" 0.5.9 ;;
	cargo-deb) set -- "$1" 3.8.0 --no-default-features ;;
	cargo-deny) set -- "$1" 0.20.2 ;;
	cargo-fuzz) set -- "$1" 0.13.1 ;;
	mdbook) set -- "$1" 0.4.52 --no-default-features ;;
	esac
	tool=$1 tool_version=$2
	tool_folder=${XDG_CACHE_HOME:-$HOME/.cache}/moorfast-ci/$tool-$tool_version
	shift 2
	[ -d "$tool_folder/bin" ] || cargo install --quiet --locked --root "$tool_folder" "$@" "$tool@$tool_version" >&2 || return 1
	PATH=$tool_folder/bin:$PATH
}

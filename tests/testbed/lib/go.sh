# shellcheck shell=bash
# The Go compiler. From 1.21 on, one that is too old fetches the toolchain that
# go.mod asks for by itself, through the module proxy.

need_go() {
	export GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
	go_suffices || go_install
	go_suffices || die "no Go compiler that has version $(go_wanted) or can fetch it (1.21 and later can).
Install one from https://go.dev/dl, or set KUBEBUILDER_ASSETS to a directory with: ${BINARIES[*]}"
}

go_wanted() { sed -n 's/^go //p' "$TESTBED/control-plane/go.mod"; }

go_suffices() {
	local version
	command -v go >/dev/null || return
	version=$(cd "$TESTBED/control-plane" && go version | sed -E 's/^go version go([0-9.]+).*/\1/')
	[[ -n $version ]] && printf '%s\n' "$(go_wanted)" "$version" | sort --version-sort --check=quiet
}

# go_install : the newest that this machine's release has, or the backports of Debian's; says so where there is none.
go_install() {
	local apt package
	command -v apt-get >/dev/null || return 0
	need /etc/ssl/certs/ca-certificates.crt ca-certificates
	apt=$(mktemp -d)
	mkdir -p "$apt/lists/partial"
	{
		cat /etc/apt/sources.list 2>/dev/null || true
		! grep -qs "^VERSION_CODENAME=$DEBIAN_RELEASE$" /etc/os-release ||
			echo "deb [signed-by=$DEBIAN_KEYRING] $(debian_mirror) $DEBIAN_RELEASE-backports main"
	} >"$apt/sources.list"
	go_apt apt-get --quiet=2 update >&2 || say "not all lists of packages could be fetched"
	package=$(go_apt apt-cache search --names-only '^golang-1\.(2[1-9]|[3-9][0-9])-go$' | cut -d' ' -f1 | sort -V | tail -n 1)
	if [[ -z $package ]]; then
		say "neither this machine's release nor its backports have Go 1.21 or later"
	else
		say "installing $package"
		DEBIAN_FRONTEND=noninteractive go_apt apt-get --quiet=2 install --yes --no-install-recommends "$package" >&2 ||
			say "could not install $package"
		package=${package#golang-}
		PATH=/usr/lib/go-${package%-go}/bin:$PATH
	fi
	rm -rf "$apt"
}

# With the lists of packages in the folder $apt, so that the machine's own sources stay as they are.
go_apt() {
	"$@" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::State::Lists="$apt/lists" -o APT::Sandbox::User=root
}

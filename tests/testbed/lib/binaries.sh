# shellcheck shell=bash
# The Kubernetes binaries: those in $KUBEBUILDER_ASSETS are used as they are, the
# others are compiled from the Go modules that control-plane/go.mod pins.

BINARIES=(etcd kube-apiserver kube-controller-manager kubectl kubelet)

binaries_directory() {
	echo "$CACHE/binaries-$(cache_key "$TESTBED/lib/binaries.sh" "$TESTBED"/control-plane/go.{mod,sum})"
}

binary_ready_made() { [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]]; }

# The cache entry holds all five, so it is needed as soon as one is not ready-made.
binaries_build() {
	local name
	for name in "${BINARIES[@]}"; do
		binary_ready_made "$name" || {
			need_go
			cache_fill "$(binaries_directory)" binaries_recipe
			return
		}
	done
}

binaries_recipe() {
	local directory=$1 version flags name packages=()
	cd "$TESTBED/control-plane" || return
	version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
	flags="-s -w $(version_flags "$version")"
	for name in "${BINARIES[@]}"; do
		[[ $name == etcd ]] || packages+=("k8s.io/kubernetes/cmd/$name")
	done
	export CGO_ENABLED=0 GOFLAGS=-mod=readonly
	nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "$directory/" "${packages[@]}"
	nice go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$directory/etcd" go.etcd.io/etcd/server/v3
}

# The release build stamps the version in; without it every binary says v0.0.0.
version_flags() {
	local package=k8s.io/component-base/version major minor
	IFS=. read -r major minor _ <<<"${1#v}"
	echo "-X $package.gitVersion=$1 -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
}

# $STATE/bin holds links, so the rest of the testbed need not know where one came from.
binaries_link() {
	local name directory
	directory=$(binaries_directory)
	for name in "${BINARIES[@]}"; do
		if binary_ready_made "$name"; then
			ln -s "$(realpath "$KUBEBUILDER_ASSETS/$name")" "$STATE/bin/$name"
		else
			ln -s "$directory/$name" "$STATE/bin/$name"
		fi
	done
}

# shellcheck shell=bash
# The binaries of a cluster one minor version of Kubernetes earlier, from which a test
# upgrades. All else is the same as in `cluster-binaries`.

PREVIOUS_PROGRAMS=(kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet)

# previous_cluster_binaries : prints the folder of the binaries, which are built when they are not in the cache.
previous_cluster_binaries() {
	local current directory
	# Not as $(...), where bash ignores `set -e`.
	cluster_binaries >/dev/null
	current=$CACHE/cluster-$(cluster_key)
	cache_fill "$(previous_programs_directory)" previous_programs_recipe
	directory=$CACHE/previous-cluster-$(cache_key "$TESTBED/lib/previous-cluster.sh" <(basename --multiple "$current" "$(previous_programs_directory)"))
	cache_fill "$directory" previous_cluster_recipe
	echo "$directory"
}

# What is compiled is an entry of its own, so that a change of anything else compiles nothing.
previous_programs_directory() { echo "$CACHE/previous-programs-$(cache_key "$TESTBED"/cluster-previous/go.{mod,sum})"; }

previous_programs_recipe() {
	local directory=$1 flags
	cd "$TESTBED/cluster-previous" || return
	flags="-s -w $(version_flags "$(go list -m -f '{{.Version}}' k8s.io/kubernetes)")"
	export CGO_ENABLED=0 GOFLAGS=-mod=readonly
	nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "$directory/" "${PREVIOUS_PROGRAMS[@]/#/k8s.io/kubernetes/cmd/}"
}

previous_cluster_recipe() {
	local directory=$1
	cp --recursive --link "$CACHE/cluster-$(cluster_key)/." "$directory/"
	cp --link --force "$(previous_programs_directory)"/* "$directory/"
}

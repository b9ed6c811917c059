# shellcheck shell=bash
# Container images. There is no registry, so they are built here and given to a node's
# containerd as if it had pulled them.

DEBIAN_IMAGE=docker.io/library/debian:$DEBIAN_RELEASE-slim
# What containerd 1.6 asks for: the container that holds a pod's network.
PAUSE_IMAGE=registry.k8s.io/pause:3.6

# node_load NODE IMAGE CONTAINERFILE CONTEXT : builds the image and gives it to the node, with what it needs to run pods.
node_load() {
	local node=$1 scratch
	need buildah buildah musl-gcc musl-tools
	need_go
	cache_fill "$(pause_directory)" pause_recipe
	scratch=$(mktemp -d)
	# In a subshell, or `set -e` would leave the scratch behind.
	(image_build "$scratch" "${@:2}") || { rm -rf --one-file-system "$scratch"; return 1; }
	node_runtime_prepare "$node"
	image_import "$node" <"$(pause_directory)/image.tar"
	image_import "$node" <"$scratch/image.tar"
	rm -rf --one-file-system "$scratch"
}

image_import() { node_exec "$1" ctr --namespace k8s.io images import --all-platforms - >&2; }

# ---------------------------------------------------------------- building

# image_build SCRATCH IMAGE CONTAINERFILE CONTEXT : leaves SCRATCH/image.tar.
# FROM Debian takes the nodes' base in its place, which is made of the same packages;
# what apt installs comes from the nodes' repository.
image_build() {
	local scratch=$1 image=$2 containerfile=$3 context=$4
	! grep -q "^FROM $DEBIAN_IMAGE" "$containerfile" || image_of_base "$scratch"
	image_tool "$scratch" bud --quiet --isolation chroot --pull-never --volume "$(repository_directory):/srv/apt:ro" \
		--file "$containerfile" --tag "$image" "$context" >&2
	image_tool "$scratch" push --quiet "$image" "docker-archive:$scratch/image.tar:$image" >&2
}

image_of_base() { # SCRATCH
	local container
	tar --create --directory "$(base_directory)" --file "$1/base.tar" .
	container=$(image_tool "$1" from scratch)
	image_tool "$1" add --quiet "$container" "$1/base.tar" / >&2
	# Debian's image has no users.
	image_tool "$1" run --isolation chroot "$container" sh -ec 'userdel ops; userdel plain' >&2
	image_tool "$1" commit --quiet --rm "$container" "$DEBIAN_IMAGE" >&2
}

# Its store is its own and goes with the scratch. vfs needs nothing of the kernel.
image_tool() {
	local scratch=$1
	shift
	buildah --root "$scratch/store" --runroot "$scratch/run" --storage-driver vfs "$@"
}

# ---------------------------------------------------------------- the pause container

pause_directory() { echo "$CACHE/pause-$(cache_key "$TESTBED/lib/images.sh" "$TESTBED"/control-plane/go.{mod,sum})"; }

# Compiled from the source that the pinned Kubernetes has.
pause_recipe() {
	local directory=$1 source
	cd "$TESTBED/control-plane" || return
	source=$(go mod download -json k8s.io/kubernetes | jq -r .Dir)/build/pause/linux/pause.c
	musl-gcc -Os -static -o "$directory/pause" "$source"
	printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$directory/Containerfile"
	image_build "$directory" "$PAUSE_IMAGE" "$directory/Containerfile" "$directory"
	rm -rf --one-file-system "$directory"/{store,run}
}

# ---------------------------------------------------------------- the node's runtime

# Where root may not lower an oom_score_adj, containerd has to be told to do without.
node_runtime_prepare() {
	! node_exec "$1" grep -q 'restrict_oom_score_adj' /etc/containerd/config.toml || return 0
	node_exec "$1" sed -i '/^ *\[plugins\."io\.containerd\.grpc\.v1\.cri"\]$/a restrict_oom_score_adj = true' /etc/containerd/config.toml
	node_exec "$1" systemctl restart containerd
}

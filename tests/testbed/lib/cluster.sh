# shellcheck shell=bash
# Everything that a cluster on the nodes needs which they cannot install with apt:
# the Kubernetes binaries of the control plane and of the nodes, etcd with its tools,
# and the images of the pods, as archives for `ctr images import`.

CLUSTER_PROGRAMS=(kube-scheduler kube-proxy etcdctl etcdutl coredns metrics-server)

# cluster_binaries : prints the folder of the binaries, which are built when they are not in the cache.
cluster_binaries() {
	local directory
	directory=$CACHE/cluster-$(cluster_key)
	need_tools
	need buildah buildah musl-gcc musl-tools busybox busybox-static
	need_go
	base_build
	repository_build
	binaries_build
	cache_fill "$(pause_directory)" pause_recipe
	cache_fill "$(cluster_programs_directory)" cluster_programs_recipe
	cache_fill "$directory" cluster_recipe
	echo "$directory"
}

# What is compiled is an entry of its own, so that a change of an image compiles nothing.
cluster_programs_directory() { echo "$CACHE/cluster-programs-$(cache_key "$TESTBED"/cluster/go.{mod,sum})"; }
cluster_key() {
	cache_key "$TESTBED/lib/cluster.sh" <(basename --multiple "$(binaries_directory)" "$(pause_directory)" "$(cluster_programs_directory)")
}

cluster_programs_recipe() {
	local directory=$1 flags packages=(
		github.com/coredns/coredns
		go.etcd.io/etcd/etcdctl/v3
		go.etcd.io/etcd/etcdutl/v3
		k8s.io/kubernetes/cmd/kube-proxy
		k8s.io/kubernetes/cmd/kube-scheduler
		sigs.k8s.io/metrics-server/cmd/metrics-server
	)
	cd "$TESTBED/cluster" || return
	flags="-s -w $(version_flags "$(go list -m -f '{{.Version}}' k8s.io/kubernetes)")"
	export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOBIN=$directory
	nice go install -trimpath -buildvcs=false -ldflags "$flags" "${packages[@]}"
}

cluster_recipe() {
	local directory=$1 name
	for name in "${BINARIES[@]}"; do
		if binary_ready_made "$name"; then
			cp "$KUBEBUILDER_ASSETS/$name" "$directory/"
		else
			ln "$(binaries_directory)/$name" "$directory/"
		fi
	done
	for name in "${CLUSTER_PROGRAMS[@]}"; do ln "$(cluster_programs_directory)/$name" "$directory/"; done
	mkdir "$directory/images"
	ln "$(pause_directory)/image.tar" "$directory/images/pause.tar"
	cluster_image "$directory" coredns registry.k8s.io/coredns/coredns:v1.14.1 "$directory/coredns" 'ENTRYPOINT ["/coredns"]'
	cluster_image "$directory" metrics-server registry.k8s.io/metrics-server/metrics-server:v0.8.0 \
		"$directory/metrics-server" 'ENTRYPOINT ["/metrics-server"]'
	# Debian's busybox: a web server, and the tools with which a pod looks around.
	cluster_image "$directory" busybox docker.io/library/busybox:1.35 "$(command -v busybox)" \
		'COPY passwd /etc/passwd' 'WORKDIR /bin' 'RUN ["/busybox", "--install", "-s", "/bin"]' 'CMD ["/bin/sh"]'
}

# cluster_image DIRECTORY NAME REFERENCE PROGRAM LINE... : makes DIRECTORY/images/NAME.tar with one static program.
cluster_image() {
	local scratch
	scratch=$(mktemp -d)
	cp "$4" "$scratch/"
	echo 'root:x:0:0:root:/:/bin/sh' >"$scratch/passwd"
	{
		printf 'FROM scratch\nCOPY %s /\n' "$(basename "$4")"
		printf '%s\n' "${@:5}"
	} >"$scratch/Containerfile"
	image_build "$scratch" "$3" "$scratch/Containerfile" "$scratch"
	mv "$scratch/image.tar" "$1/images/$2.tar"
	rm -rf --one-file-system "$scratch"
}

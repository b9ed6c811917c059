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
	need buildah buildah musl-gcc musl-tools
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
	cache_key "$TESTBED/lib/cluster.sh" \
		<(basename --multiple "$(binaries_directory)" "$(pause_directory)" "$(cluster_programs_directory)" "$(repository_directory)")
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
	cluster_image "$directory" coredns registry.k8s.io/coredns/coredns:v1.14.1 'ENTRYPOINT ["/coredns"]' cluster_root_coredns
	cluster_image "$directory" metrics-server registry.k8s.io/metrics-server/metrics-server:v0.8.0 \
		'ENTRYPOINT ["/metrics-server"]' cluster_root_metrics_server
	cluster_image "$directory" busybox docker.io/library/busybox:1.35 'CMD ["/bin/sh"]' cluster_root_busybox
}

# cluster_image DIRECTORY NAME REFERENCE LINE FILL : makes DIRECTORY/images/NAME.tar of the files that the function FILL copies.
cluster_image() {
	local scratch
	scratch=$(mktemp -d)
	mkdir "$scratch/root"
	"$5" "$scratch/root"
	printf 'FROM scratch\nCOPY root /\n%s\n' "$4" >"$scratch/Containerfile"
	image_build "$scratch" "$3" "$scratch/Containerfile" "$scratch"
	mv "$scratch/image.tar" "$1/images/$2.tar"
	rm -rf --one-file-system "$scratch"
}

cluster_root_coredns() { cp "$(cluster_programs_directory)/coredns" "$1"; }
cluster_root_metrics_server() { cp "$(cluster_programs_directory)/metrics-server" "$1"; }

# Debian's busybox: a web server, and the tools with which a pod looks around. The static one cannot resolve names.
cluster_root_busybox() {
	local library
	mkdir -p "$1"/{bin,etc,tmp,usr/lib}
	ln -s usr/lib "$1/lib"
	dpkg-deb --fsys-tarfile "$(repository_directory)"/busybox_*.deb | tar --extract --directory "$1" ./bin/busybox
	for library in "$(base_directory)"/usr/lib/*-linux-gnu/{libc,libresolv}.so.? "$(base_directory)"/lib*/ld-linux*.so.?; do
		install -D "$library" "$1/${library#"$(base_directory)"/}"
	done
	chroot "$1" /bin/busybox --install -s /bin
	echo 'root:x:0:0:root:/:/bin/sh' >"$1/etc/passwd"
}

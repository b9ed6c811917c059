# shellcheck shell=bash
# The base system of the nodes, and the package repository that they install from.

DEBIAN_RELEASE=bookworm
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

base_key() { cache_key "$TESTBED/lib/base.sh" "$TESTBED/base.packages"; }
base_directory() { echo "$CACHE/base-$(base_key)"; }

# The repository holds what the base lacks, so it depends on the base too.
repository_directory() {
	echo "$CACHE/repository-$(base_key)-$(cache_key "$TESTBED/repository.packages")"
}

base_build() { cache_fill "$(base_directory)" base_recipe; }
repository_build() { cache_fill "$(repository_directory)" repository_recipe; }

package_list() { sed -E 's/#.*//; /^\s*$/d' "$1"; }

# The mirror that this machine itself uses for the release, if it does.
debian_mirror() {
	local mirror=${MOORFAST_DEBIAN_MIRROR:-}
	# shellcheck disable=SC2016 # apt-get expands it
	[[ -n $mirror ]] || mirror=$(apt-get indextargets --format '$(REPO_URI)' \
		"Codename: $DEBIAN_RELEASE" 'Component: main' 'Identifier: Packages' | sed -n 1p)
	echo "${mirror:-http://deb.debian.org/debian}"
}

base_recipe() {
	local base=$1 packages
	packages=$(package_list "$TESTBED/base.packages" | paste -sd,)
	nice debootstrap --variant=minbase --include="$packages" "$DEBIAN_RELEASE" "$base" "$(debian_mirror)"
	base_forget_identity "$base"
	base_add_users "$base"
	base_use_repository "$base"
	base_open_cgroups "$base"
}

# Whatever the nodes would otherwise share: keys, ids, and names of this machine.
base_forget_identity() {
	rm -f "$1"/etc/ssh/ssh_host_* "$1/var/lib/dbus/machine-id" "$1/etc/hostname"
	: >"$1/etc/machine-id"
	echo '# Nothing to ask: the testbed has no name server.' >"$1/etc/resolv.conf"
	rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/archives/*.deb "$1/var/log/bootstrap.log"
}

base_add_users() {
	chroot "$1" useradd --create-home --shell /bin/bash ops
	chroot "$1" useradd --create-home --shell /bin/bash plain
	echo 'ops ALL=(ALL) NOPASSWD: ALL' >"$1/etc/sudoers.d/ops"
	chmod 0440 "$1/etc/sudoers.d/ops"
}

base_use_repository() {
	mkdir "$1/srv/apt"
	echo 'deb [trusted=yes] file:/srv/apt ./' >"$1/etc/apt/sources.list"
}

# The container manager mounts the hierarchies of cgroup v1 read-only; kubelet and
# the container runtime write to them. As a unit, it survives a node's reboot.
base_open_cgroups() {
	cat >"$1/etc/systemd/system/testbed-cgroups.service" <<'UNIT'
[Unit]
Description=Make the cgroup hierarchies writable, as they are on a real machine
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'mount -o remount,rw /sys/fs/cgroup; for h in /sys/fs/cgroup/*/; do ! mountpoint -q "$h" || mount -o remount,bind,rw "$h"; done'

[Install]
WantedBy=sysinit.target
UNIT
	chroot "$1" systemctl enable testbed-cgroups.service
}

# This machine's apt downloads, with its configuration (proxies and the like), but
# with the release's own sources and as if the base's packages were installed.
repository_recipe() {
	local repository=$1 apt=$1/.apt packages
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	echo "deb [signed-by=$DEBIAN_KEYRING] $(debian_mirror) $DEBIAN_RELEASE main" >"$apt/sources.list"
	mapfile -t packages < <(package_list "$TESTBED/repository.packages")
	repository_apt "$apt" update
	repository_apt "$apt" install --yes --download-only --no-install-recommends "${packages[@]}"
	mv "$apt"/cache/archives/*.deb "$repository"
	rm -rf "$apt"
	cd "$repository" || return
	apt-ftparchive packages . >Packages
	apt-ftparchive release . >Release
}

repository_apt() {
	local apt=$1
	shift
	apt-get --quiet=2 \
		-o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$apt/lists" -o Dir::State::Status="$(base_directory)/var/lib/dpkg/status" \
		-o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root "$@"
}

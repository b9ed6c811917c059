# shellcheck shell=bash
# A node is a systemd-nspawn container over an overlay of the base: its own systemd,
# sshd, users, keys, network. Its directory in the state:
#   address           its IP address
#   upper, work, root the overlay: its changes, its scratch space, where it is mounted
#   disks/            a file system of its own with directories that the node sees as disks
#   console.log       what the node printed

# The paths on a node that are disks. They are not in the overlay: an overlay cannot hold another one, which containerd needs. And they are not on
# this machine's disk: a kubelet rejects pods when less than 10 % of its disk is free, however many gigabytes that is.
NODE_DISKS=(data var/lib/containerd var/lib/kubelet)
NODE_DISKS_SIZE=8g

NODE_BOOT_SECONDS=60

node_directory() { echo "$STATE/nodes/$1"; }
node_address() { cat "$(node_directory "$1")/address"; }
node_cgroup() { echo "$NAME/node-$1"; }
node_machine() { echo "moorfast-$(<"$STATE/subnet")-$1"; }
node_names() { [[ ! -d $STATE/nodes ]] || ls "$STATE/nodes"; }

node_must_exist() {
	[[ -d $STATE/nodes/$1 ]] || die "testbed '$NAME' has no node '$1'; it has: $(node_names | paste -sd' ')"
}

# ---------------------------------------------------------------- making and removing

node_create() { # NAME ADDRESS
	mkdir -p "$(node_directory "$1")"
	echo "$2" >"$(node_directory "$1")/address"
	node_install "$1"
}

# A machine as it leaves the factory: empty disks, new identity.
node_install() {
	local directory place
	directory=$(node_directory "$1")
	mkdir -p "$directory"/{upper,work,root,disks}
	mount -t tmpfs -o "size=$NODE_DISKS_SIZE,mode=0755" "moorfast-$NAME-$1-disks" "$directory/disks"
	for place in "${NODE_DISKS[@]}"; do mkdir -p "$directory/disks/$place"; done
	mount -t overlay "moorfast-$NAME-$1" "$directory/root" \
		-o "lowerdir=$(base_directory),upperdir=$directory/upper,workdir=$directory/work"
	node_identify "$1" "$directory/root"
	node_authorize "$directory/root"
	node_describe_kernel "$directory/root"
}

node_identify() { # NAME ROOT
	local type
	echo "$1" >"$2/etc/hostname"
	printf '127.0.0.1 localhost\n%s %s\n' "$(node_address "$1")" "$1" >"$2/etc/hosts"
	systemd-id128 new >"$2/etc/machine-id"
	for type in ed25519 ecdsa; do
		ssh-keygen -q -t "$type" -N '' -C "root@$1" -f "$2/etc/ssh/ssh_host_${type}_key"
	done
}

# Ids as in the node's own passwd file, which need not be those of this machine.
node_authorize() { # ROOT
	local user uid gid home
	for user in root ops plain; do
		IFS=: read -r _ _ uid gid _ home _ < <(grep "^$user:" "$1/etc/passwd")
		install -d -m 0700 -o "$uid" -g "$gid" "$1$home/.ssh"
		install -m 0600 -o "$uid" -g "$gid" "$STATE/ssh/id_ed25519.pub" "$1$home/.ssh/authorized_keys"
	done
}

# A kernel built without modules has no /lib/modules, so modprobe fails even for what
# is built in. An index of those makes it succeed, as on a machine from a distribution.
node_describe_kernel() { # ROOT
	local modules
	[[ ! -e /proc/modules ]] || return 0
	modules=$1/lib/modules/$(uname -r)
	mkdir -p "$modules"
	{
		ls /sys/module
		[[ ! -d /proc/sys/net/bridge ]] || echo br_netfilter # it has no parameters, so it is not in /sys/module
	} | sed 's|.*|kernel/&.ko|' >"$modules/modules.builtin"
	: >"$modules/modules.order"
	chroot "$1" depmod 2>/dev/null
}

node_remove() {
	local directory
	directory=$(node_directory "$1")
	node_power_off "$1"
	[[ ! -e $directory/address ]] || network_detach "$1" "$(node_address "$1")"
	node_wipe "$1"
	rm -rf --one-file-system "$directory"
}

node_wipe() {
	local directory place
	directory=$(node_directory "$1")
	for place in root disks; do
		! mountpoint -q "$directory/$place" || wait_until 20 "$directory/$place to be unmounted" umount "$directory/$place"
	done
	rm -rf --one-file-system "$directory"/{upper,work,root,disks}
}

# ---------------------------------------------------------------- power

node_power_on() {
	spawn "$(node_cgroup "$1")/power" "$STATE/logs/$1.log" "$STATE/run/$1.pid" \
		"$TESTBED/testbed" power-supply --name "$NAME" "$1"
}

# Runs the node's machine, again after each reboot: systemd-nspawn exits with 133 when
# its container rebooted, and 0 when it powered off. This is the process `power_on` starts.
node_power_supply() {
	local status=133
	while ((status == 133)); do
		status=0
		# A new network each time: addresses, routes, sysctls and firewall rules do not
		# survive a reboot.
		network_detach "$1" "$(node_address "$1")"
		network_attach "$1" "$(node_address "$1")"
		node_machine_run "$1" || status=$?
	done
	return "$status"
}

node_machine_run() (
	directory=$(node_directory "$1")
	binds=(--bind=/dev/kmsg --bind-ro="$(repository_directory):/srv/apt")
	for place in "${NODE_DISKS[@]}"; do binds+=("--bind=$directory/disks/$place:/$place"); done
	[[ ! -e /proc/modules ]] || binds+=(--bind-ro=/lib/modules)

	cgroup_enter "$(node_cgroup "$1")/machine"
	echo "$BASHPID" >"$directory/nspawn.pid"
	# All capabilities, writable /proc/sys and the kernel's keyring: a real machine's
	# root has them, and kubelet and runc use them. nspawn is started inside the node's
	# network namespace instead of joining it, so that the node's /sys shows that namespace too.
	exec env SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes \
		nsenter --net="/run/netns/$(node_netns "$1")" \
		systemd-nspawn --quiet --boot --directory="$directory/root" \
		--machine="$(node_machine "$1")" --hostname="$1" \
		--register=no --keep-unit --capability=all --system-call-filter=@keyring \
		--resolv-conf=off --timezone=off --link-journal=no \
		"${binds[@]}" </dev/null >>"$directory/console.log" 2>&1
)

# Kills the node as a power cut would. A killed nspawn leaves two files behind in /run.
node_power_off() {
	local run=/run/systemd/nspawn root
	root=$(node_directory "$1")/root
	cgroup_destroy "$(node_cgroup "$1")"
	rm -rf "$run/propagate/$(node_machine "$1")"
	[[ ! -d $root ]] || rm -f "$run/locks/$(stat --format 'inode-%d:%i' "$root")"
}

node_is_on() { is_running "$STATE/run/$1.pid"; }

node_start() {
	node_is_on "$1" && return
	node_power_on "$1"
	node_wait "$1"
}

node_reboot() {
	local boot
	node_is_on "$1" || die "node '$1' is off"
	boot=$(node_boot_id "$1")
	# systemd's signal for a reboot; see systemd(1).
	kill -s RTMIN+5 "$(node_init_pid "$1")"
	wait_until "$NODE_BOOT_SECONDS" "node $1 to boot again" node_booted_since "$1" "$boot"
	node_wait "$1"
}

# Read from outside: a process of ours in a node that shuts down is stopped with all others, nsenter then stops itself as it does for the job
# control of a shell, nothing continues it, and the node waits for it forever.
node_boot_id() {
	local init
	init=$(node_init_pid "$1") && cat "/proc/$init/root/proc/sys/kernel/random/boot_id"
}

node_booted_since() {
	local now
	now=$(node_boot_id "$1") && [[ $now != "$2" ]]
}

# Replaces the machine; name and address stay.
node_replace() {
	node_power_off "$1"
	node_wipe "$1"
	rm -f "$(node_directory "$1")/console.log"
	node_install "$1"
	known_hosts_write
	node_power_on "$1"
	node_wait "$1"
}

# ---------------------------------------------------------------- talking to a node

ssh_create_key() { ssh-keygen -q -t ed25519 -N '' -C "testbed-$NAME" -f "$STATE/ssh/id_ed25519"; }

known_hosts_write() {
	local node key
	for node in $(node_names); do
		for key in "$(node_directory "$node")"/root/etc/ssh/ssh_host_*_key.pub; do
			echo "$(node_address "$node") $(cut -d' ' -f1,2 "$key")"
		done
	done >"$STATE/ssh/known_hosts"
}

node_ssh() { # NODE USER COMMAND...
	local node=$1 user=$2
	shift 2
	ssh -F none -i "$STATE/ssh/id_ed25519" -o UserKnownHostsFile="$STATE/ssh/known_hosts" \
		-o BatchMode=yes -o ConnectTimeout=2 "$user@$(node_address "$node")" "$@"
}

# A node is up when it lets a user without privileges in: before that, sshd may
# answer and still turn everybody but root away (pam_nologin).
node_wait() { wait_for_process "$NODE_BOOT_SECONDS" "$1" node_ssh "$1" plain true || node_show_console "$1"; }

node_show_console() {
	say "the end of the console of $1:"
	tail -n 30 "$(node_directory "$1")/console.log" | sed 's/^/    /' >&2
	return 1
}

# The pid of the node's process 1 on this machine: the child of nspawn that is the first process of its own pid namespace.
node_init_pid() {
	local pid
	for pid in $(pgrep --parent "$(<"$(node_directory "$1")/nspawn.pid")"); do
		[[ $(awk '/^NSpid:/ { print NF, $NF }' "/proc/$pid/status") == '3 1' ]] || continue
		echo "$pid"
		return
	done
	return 1
}

# Works without sshd, for tests that break it.
node_exec() {
	local node=$1 init
	shift
	init=$(node_init_pid "$node") || die "node '$node' is not running"
	nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wdns=/ \
		env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

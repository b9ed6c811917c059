# shellcheck shell=bash
# Every process of a testbed lives below one cgroup, moorfast-testbed/NAME, in
# each hierarchy that the machine has (one in cgroup v2, a dozen in v1).
# That is how `down` finds them all after a crash: pid files go stale and pids
# are used again, membership of a cgroup is the kernel's own record.
# It also gives each node a subtree of its own. Without one, the systemds of all
# nodes would share the machine's root cgroup and stop each other's services.

CGROUP_ROOT=moorfast-testbed

cgroup_hierarchies() { awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup" { print $2 }' /proc/mounts; }

# cgroup_enter PATH : moves the calling (sub)shell there in every hierarchy.
cgroup_enter() {
	local hierarchy
	while read -r hierarchy; do
		cgroup_make_root "$hierarchy"
		mkdir -p "$hierarchy/$CGROUP_ROOT/$1"
		echo "$BASHPID" >"$hierarchy/$CGROUP_ROOT/$1/cgroup.procs"
	done < <(cgroup_hierarchies)
}

# A new cpuset of cgroup v1 has no CPUs and takes no process until it has some.
cgroup_make_root() {
	local root=$1/$CGROUP_ROOT file
	mkdir -p "$root"
	[[ -e $root/cpuset.mems && -e $root/cgroup.clone_children ]] || return 0
	for file in cpuset.cpus cpuset.mems; do
		[[ -n $(<"$root/$file") ]] || cat "$1/$file" >"$root/$file"
	done
	echo 1 >"$root/cgroup.clone_children"
}

# cgroup_destroy PATH : kills whatever is in it and removes it.
cgroup_destroy() { wait_until 30 "the processes of cgroup $1 to die" cgroup_kill_and_remove "$1"; }

cgroup_kill_and_remove() {
	local dirs pids
	mapfile -t dirs < <(cgroup_directories "$1")
	((${#dirs[@]})) || return 0
	mapfile -t pids < <(find "${dirs[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
	((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
	find "${dirs[@]}" -depth -type d -exec rmdir {} + 2>/dev/null || true
	[[ -z $(cgroup_directories "$1") ]]
}

cgroup_directories() {
	local hierarchy
	while read -r hierarchy; do
		[[ ! -d $hierarchy/$CGROUP_ROOT/$1 ]] || echo "$hierarchy/$CGROUP_ROOT/$1"
	done < <(cgroup_hierarchies)
}

# shellcheck shell=bash
# What every other file uses: messages, deadlines, locks, background processes.

say() { printf 'testbed: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# wait_until SECONDS WHAT COMMAND... : polls until the command succeeds.
# Every wait of the testbed goes through here, so none is without a deadline.
wait_until() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	# In a subshell, or the messages of an exit trap would be silenced with it.
	until ("$@") >/dev/null 2>&1; do
		if ((SECONDS >= deadline)); then
			say "gave up waiting for $what"
			return 1
		fi
		sleep 0.1
	done
}

# lock FILE : holds FILE exclusively until this (sub)shell ends. Processes that
# outlive it must not inherit the lock: `spawn` closes it for them.
lock() {
	mkdir -p "$(dirname "$1")"
	exec {LOCK_FD}>"$1"
	flock --nonblock "$LOCK_FD" && return
	say "waiting for another testbed command to release $1"
	flock --timeout 1800 "$LOCK_FD" || die "still locked after 30 minutes: $1"
}

# spawn CGROUP LOG PIDFILE COMMAND... : starts a process that outlives this one,
# in its own session and in a cgroup, so that `down` finds it.
spawn() {
	local cgroup=$1 log=$2 pidfile=$3
	shift 3
	(
		[[ -z ${LOCK_FD:-} ]] || exec {LOCK_FD}>&-
		cgroup_enter "$cgroup"
		exec setsid "$@"
	) </dev/null >>"$log" 2>&1 &
	echo $! >"$pidfile"
	disown # or bash would report its death
}

# A zombie does not count: not every process 1 collects them at once.
is_running() { # PIDFILE
	local state
	[[ -s $1 ]] && state=$(ps --no-headers -o state -p "$(<"$1")") && [[ $state != Z ]]
}

# wait_for_process SECONDS NAME CONDITION... : waits for the condition while the
# process NAME (pid and log in the state directory) lives; when it does not come
# true, the end of that process's log says why.
wait_for_process() {
	local seconds=$1 name=$2
	shift 2
	local pidfile=$STATE/run/$name.pid log=$STATE/logs/$name.log
	if wait_until "$seconds" "$name" came_true_or_died "$pidfile" "$@" && is_running "$pidfile"; then
		return 0
	fi
	is_running "$pidfile" || say "$name died"
	say "the end of $log:"
	tail -n 30 "$log" | sed 's/^/    /' >&2
	return 1
}

came_true_or_died() {
	local pidfile=$1
	shift
	"$@" || ! is_running "$pidfile"
}

# need FILE-OR-COMMAND PACKAGE ... : installs the Debian packages of what is missing.
need() {
	local missing=()
	while (($#)); do
		[[ -e $1 ]] || command -v "$1" >/dev/null || missing+=("$2")
		shift 2
	done
	((${#missing[@]})) || return 0
	say "installing ${missing[*]}"
	apt-get update --quiet=2 >&2
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >&2
}

need_tools() {
	((EUID == 0)) || die "machines, mounts and networks need root"
	need debootstrap debootstrap "$DEBIAN_KEYRING" debian-archive-keyring apt-ftparchive apt-utils \
		systemd-nspawn systemd-container ip iproute2 ssh openssh-client openssl openssl \
		jq jq curl curl flock util-linux pgrep procps
}

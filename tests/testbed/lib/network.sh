# shellcheck shell=bash
# One bridge and one /24 per testbed, 10.213.N.0/24: .1 is this machine (where the
# control plane listens), nodes count from .11. Each node has a network namespace
# that is made and addressed here, before the node starts.
# The control plane's private ports go to 127.213.N.1, a loopback address that is
# the testbed's own, so fixed port numbers do for any number of testbeds.

network_prefix() { echo "10.213.$(<"$STATE/subnet")"; }
gateway() { echo "$(network_prefix).1"; }
loopback() { echo "127.213.$(<"$STATE/subnet").1"; }
bridge() { echo "mfbr$(<"$STATE/subnet")"; }

# A free number is one that no state directory claims and no interface or route
# uses. The subshell holds the lock, so two `up` at once get different numbers.
network_claim_subnet() (
	lock "$STATE_ROOT/.subnets.lock"
	used=$(ip -4 -oneline address && ip -4 route)
	for n in {1..254}; do
		! grep -qsx "$n" "$STATE_ROOT"/*/subnet || continue
		[[ $used != *" 10.213.$n."* && $used != *$'\n'"10.213.$n."* ]] || continue
		echo "$n" >"$STATE/subnet"
		return
	done
	die "no free subnet in 10.213.0.0/16"
)

network_up() {
	local bridge
	bridge=$(bridge)
	ip link add "$bridge" type bridge
	ip address add "$(gateway)/24" dev "$bridge"
	ip link set "$bridge" up
}

network_down() { ip link delete "$(bridge)" 2>/dev/null || true; }

# An interface name has 15 characters at most: subnet and host number fit, names do not.
node_netns() { echo "moorfast-$(<"$STATE/subnet")-$1"; }
node_port() { echo "mf$(<"$STATE/subnet")p${1##*.}"; }

# The hardware address is always the same: with a new one after each boot, this machine
# would go on talking to the old one for half a minute.
node_mac() { printf '02:6d:66:00:%02x:%02x\n' "$(<"$STATE/subnet")" "${1##*.}"; }

network_attach() { # NODE ADDRESS
	local netns port
	netns=$(node_netns "$1")
	port=$(node_port "$2")
	ip netns add "$netns"
	ip link add "$port" type veth peer name eth0 address "$(node_mac "$2")" netns "$netns"
	ip link set "$port" master "$(bridge)" up
	ip -netns "$netns" link set lo up
	ip -netns "$netns" address add "$2/24" dev eth0
	ip -netns "$netns" link set eth0 up
	ip -netns "$netns" route add default via "$(gateway)"
}

network_detach() { # NODE ADDRESS
	ip link delete "$(node_port "$2")" 2>/dev/null || true
	ip netns delete "$(node_netns "$1")" 2>/dev/null || true
}

# shellcheck shell=bash
# testbed.json: all that a test has to know of a running testbed.

report_write() {
	jq -n \
		--arg name "$NAME" --arg state "$STATE" \
		--arg bridge "$(bridge)" --arg subnet "$(network_prefix).0/24" --arg gateway "$(gateway)" \
		--arg identity "$STATE/ssh/id_ed25519" --arg known_hosts "$STATE/ssh/known_hosts" \
		--argjson nodes "$(report_nodes)" --argjson control_plane "$(report_control_plane)" \
		'{
			name: $name,
			state: $state,
			network: {bridge: $bridge, subnet: $subnet, gateway: $gateway},
			ssh: {
				identity_file: $identity,
				known_hosts: $known_hosts,
				users: [
					{name: "root", root: true, sudo: false},
					{name: "ops", root: false, sudo: true},
					{name: "plain", root: false, sudo: false}
				]
			},
			nodes: $nodes,
			control_plane: $control_plane
		}' >"$STATE/testbed.json.partial"
	mv "$STATE/testbed.json.partial" "$STATE/testbed.json"
}

report_nodes() {
	local node
	for node in $(node_names); do
		jq -n --arg name "$node" --arg address "$(node_address "$node")" \
			--arg machine_id "$(<"$(node_directory "$node")/root/etc/machine-id")" \
			--argjson host_keys "$(report_host_keys "$node")" \
			'{name: $name, address: $address, port: 22, machine_id: $machine_id, host_keys: $host_keys}'
	done | jq -s .
}

# ssh-keygen -l prints: BITS SHA256:FINGERPRINT COMMENT (TYPE)
report_host_keys() {
	local key
	for key in "$(node_directory "$1")"/root/etc/ssh/ssh_host_*_key.pub; do
		jq -n --arg public_key "$(cut -d' ' -f1,2 "$key")" \
			--arg fingerprint "$(ssh-keygen -l -f "$key" | cut -d' ' -f2)" \
			'{type: ($public_key | split(" ")[0]), fingerprint: $fingerprint, public_key: $public_key}'
	done | jq -s .
}

report_control_plane() {
	has_control_plane || {
		echo null
		return
	}
	jq -n --arg state "$STATE" --arg server "$(api_server_url)" --arg service_network "$SERVICE_NETWORK" \
		--argjson binaries "$(report_binaries)" \
		'{
			server: $server,
			kubeconfig: "\($state)/kubeconfig",
			ca: "\($state)/pki/ca.crt",
			admin: {cert: "\($state)/pki/admin.crt", key: "\($state)/pki/admin.key"},
			controller_manager: {
				cert: "\($state)/pki/kube-controller-manager.crt",
				key: "\($state)/pki/kube-controller-manager.key"
			},
			service_network: $service_network,
			logs: "\($state)/logs",
			binaries: $binaries
		}'
}

# The real files, not the links, for whoever uploads one.
report_binaries() {
	local name
	for name in "${BINARIES[@]}"; do
		jq -n --arg name "$name" --arg path "$(realpath "$STATE/bin/$name")" '{($name): $path}'
	done | jq -s add
}

# shellcheck shell=bash
# etcd, kube-apiserver and kube-controller-manager as plain processes of this machine.
# The API server listens where the nodes reach it, everything else on the testbed's
# own loopback address.

API_PORT=8443
SERVICE_NETWORK=10.254.0.0/16
KUBERNETES_SERVICE_IP=10.254.0.1

COMPONENTS=(etcd kube-apiserver kube-controller-manager)

api_server_url() { echo "https://$(gateway):$API_PORT"; }

control_plane_create() {
	pki_create
	binaries_link
	kubeconfig_create admin "$STATE/kubeconfig"
	kubeconfig_create kube-controller-manager "$STATE/pki/kube-controller-manager.kubeconfig"
}

# Starting and waiting are apart, so that the nodes can boot meanwhile.
control_plane_start() {
	etcd_start
	kube_apiserver_start
}

control_plane_wait() {
	wait_for_process 30 etcd etcd_healthy
	wait_for_process 60 kube-apiserver api_ready
	kube_controller_manager_start
	wait_for_process 30 kube-controller-manager controller_manager_healthy
	wait_until 30 "the default service account" kubectl get serviceaccount default
}

has_control_plane() { [[ -e $STATE/kubeconfig ]]; }

control_plane_stop() { cgroup_destroy "$NAME/control-plane"; }

component_start() { # NAME ARGUMENT...
	local name=$1
	shift
	spawn "$NAME/control-plane/$name" "$STATE/logs/$name.log" "$STATE/run/$name.pid" "$STATE/bin/$name" "$@"
}

etcd_start() {
	local client peer
	client=http://$(loopback):2379
	peer=http://$(loopback):2380
	# Nothing here has to survive a power cut, so nothing waits for the disk.
	component_start etcd --name testbed --data-dir "$STATE/etcd" --unsafe-no-fsync \
		--listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "testbed=$peer"
}

etcd_healthy() { curl -fsS --max-time 2 "http://$(loopback):2379/health"; }

kube_apiserver_start() {
	component_start kube-apiserver \
		--etcd-servers "http://$(loopback):2379" \
		--bind-address "$(gateway)" --advertise-address "$(gateway)" --secure-port "$API_PORT" \
		--tls-cert-file "$STATE/pki/kube-apiserver.crt" --tls-private-key-file "$STATE/pki/kube-apiserver.key" \
		--client-ca-file "$STATE/pki/ca.crt" --enable-bootstrap-token-auth \
		--authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
		--kubelet-client-certificate "$STATE/pki/kube-apiserver-kubelet-client.crt" \
		--kubelet-client-key "$STATE/pki/kube-apiserver-kubelet-client.key" \
		--kubelet-certificate-authority "$STATE/pki/ca.crt" \
		--kubelet-preferred-address-types InternalIP,Hostname \
		--service-cluster-ip-range "$SERVICE_NETWORK" \
		--service-account-issuer https://kubernetes.default.svc.cluster.local \
		--service-account-key-file "$STATE/pki/service-account.pub" \
		--service-account-signing-key-file "$STATE/pki/service-account.key"
}

api_ready() { kubectl get --raw /readyz; }

kube_controller_manager_start() {
	local kubeconfig=$STATE/pki/kube-controller-manager.kubeconfig
	component_start kube-controller-manager \
		--kubeconfig "$kubeconfig" --authentication-kubeconfig "$kubeconfig" --authorization-kubeconfig "$kubeconfig" \
		--bind-address "$(loopback)" --cert-dir "$STATE/run" --leader-elect=false \
		--controllers '*,bootstrapsigner,tokencleaner' --use-service-account-credentials \
		--cluster-signing-cert-file "$STATE/pki/ca.crt" --cluster-signing-key-file "$STATE/pki/ca.key" \
		--root-ca-file "$STATE/pki/ca.crt" --service-account-private-key-file "$STATE/pki/service-account.key"
}

controller_manager_healthy() { curl -fsSk --max-time 2 "https://$(loopback):10257/healthz"; }

kubectl() { "$STATE/bin/kubectl" --kubeconfig "$STATE/kubeconfig" --request-timeout 5s "$@"; }

kubeconfig_create() { # CERTIFICATE FILE
	local pki=$STATE/pki
	(
		umask 077
		cat >"$2" <<YAML
apiVersion: v1
kind: Config
current-context: testbed
clusters:
- name: testbed
  cluster:
    server: $(api_server_url)
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$pki/$1.crt")
    client-key-data: $(base64 -w0 "$pki/$1.key")
contexts:
- name: testbed
  context:
    cluster: testbed
    user: $1
YAML
	)
}

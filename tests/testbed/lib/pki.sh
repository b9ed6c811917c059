# shellcheck shell=bash
# The cluster's certificates, in $STATE/pki. One authority signs everything, as in
# most clusters set up by hand. The keys are ECDSA, which take no time to make.

PKI_DAYS=30

pki_create() {
	pki_authority ca moorfast-testbed-ca
	pki_issue kube-apiserver /CN=kube-apiserver serverAuth "$(pki_apiserver_names)"
	pki_issue admin /O=system:masters/CN=admin clientAuth
	pki_issue kube-controller-manager /CN=system:kube-controller-manager clientAuth
	pki_issue kube-apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
	pki_key service-account
	openssl pkey -in "$STATE/pki/service-account.key" -pubout -out "$STATE/pki/service-account.pub"
}

# The API server is reached by its address, and from pods by the first address of
# the service network and the names of that service.
pki_apiserver_names() {
	echo "IP:$(gateway),IP:127.0.0.1,IP:$KUBERNETES_SERVICE_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
}

pki_key() {
	openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$STATE/pki/$1.key" 2>/dev/null
}

pki_authority() { # NAME COMMON-NAME
	pki_key "$1"
	pki_certificate "$1" "/CN=$2" 'basicConstraints=critical,CA:TRUE' 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'
}

pki_issue() { # NAME SUBJECT USAGE [ALTERNATIVE-NAMES]
	pki_key "$1"
	pki_certificate "$1" "$2" 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature,keyEncipherment' \
		"extendedKeyUsage=$3" ${4:+"subjectAltName=$4"} -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key"
}

# pki_certificate NAME SUBJECT EXTENSION... [-OPTION...] : certifies the key NAME.
pki_certificate() {
	local name=$1 subject=$2 extensions=()
	shift 2
	while (($#)) && [[ $1 != -* ]]; do
		extensions+=("$1")
		shift
	done
	openssl req -x509 -new -key "$STATE/pki/$name.key" -subj "$subject" -days "$PKI_DAYS" \
		-config <(printf '[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n'
			printf '%s\n' "${extensions[@]}") \
		"$@" -out "$STATE/pki/$name.crt"
}

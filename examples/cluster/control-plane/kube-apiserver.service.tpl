[Unit]
Description=Kubernetes API server
Documentation=https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
WorkingDirectory=${directory}
ExecStart=/opt/k8s/bin/kube-apiserver \
  --advertise-address=${address} \
  --bind-address=${address} \
  --secure-port=6443 \
  --tls-cert-file=${cert}/kubernetes.pem \
  --tls-private-key-file=${cert}/kubernetes-key.pem \
  --client-ca-file=${cert}/ca.pem \
  --authentication-config=/etc/kubernetes/authentication-config.yaml \
  --enable-bootstrap-token-auth \
  --authorization-mode=Node,RBAC \
  --enable-admission-plugins=NodeRestriction \
  --etcd-servers=${etcd_servers} \
  --etcd-cafile=${cert}/etcd-ca.pem \
  --etcd-certfile=${cert}/etcd-client.pem \
  --etcd-keyfile=${cert}/etcd-client-key.pem \
  --encryption-provider-config=/etc/kubernetes/encryption-config.yaml \
  --service-cluster-ip-range=${service_cidr} \
  --service-node-port-range=${node_port_range} \
  --service-account-issuer=https://kubernetes.default.svc.${cluster_dns_domain} \
  --service-account-key-file=${cert}/service-account.pem \
  --service-account-signing-key-file=${cert}/service-account-key.pem \
  --kubelet-certificate-authority=${cert}/ca.pem \
  --kubelet-client-certificate=${cert}/kubernetes.pem \
  --kubelet-client-key=${cert}/kubernetes-key.pem \
  --kubelet-preferred-address-types=InternalIP,Hostname \
  --requestheader-client-ca-file=${cert}/front-proxy-ca.pem \
  --requestheader-allowed-names=aggregator \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --requestheader-group-headers=X-Remote-Group \
  --requestheader-username-headers=X-Remote-User \
  --proxy-client-cert-file=${cert}/proxy-client.pem \
  --proxy-client-key-file=${cert}/proxy-client-key.pem \
  --enable-aggregator-routing \
  --audit-policy-file=/etc/kubernetes/audit-policy.yaml \
  --audit-log-path=${directory}/audit.log \
  --audit-log-maxage=30 \
  --audit-log-maxbackup=3 \
  --audit-log-maxsize=100 \
  --event-ttl=168h \
  --max-requests-inflight=4000 \
  --max-mutating-requests-inflight=2000 \
  --shutdown-delay-duration=5s \
  --shutdown-watch-termination-grace-period=10s
Restart=on-failure
RestartSec=5
TimeoutStartSec=3min
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target

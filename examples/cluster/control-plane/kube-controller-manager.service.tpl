[Unit]
Description=Kubernetes controller manager
Documentation=https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
After=kube-apiserver.service

[Service]
WorkingDirectory=${directory}
ExecStart=/opt/k8s/bin/kube-controller-manager \
  --bind-address=${address} \
  --secure-port=10257 \
  --tls-cert-file=${cert}/kube-controller-manager.pem \
  --tls-private-key-file=${cert}/kube-controller-manager-key.pem \
  --client-ca-file=${cert}/ca.pem \
  --requestheader-client-ca-file=${cert}/front-proxy-ca.pem \
  --requestheader-allowed-names=aggregator \
  --kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig \
  --authentication-kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig \
  --authorization-kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig \
  --cluster-signing-cert-file=${cert}/ca.pem \
  --cluster-signing-key-file=${cert}/ca-key.pem \
  --cluster-signing-duration=8760h \
  --root-ca-file=${cert}/ca.pem \
  --service-account-private-key-file=${cert}/service-account-key.pem \
  --service-cluster-ip-range=${service_cidr} \
  --cluster-cidr=${cluster_cidr} \
  --allocate-node-cidrs=false \
  --flex-volume-plugin-dir=${directory}/volume-plugins \
  --controllers=*,bootstrapsigner,tokencleaner \
  --use-service-account-credentials \
  --leader-elect
Restart=always
RestartSec=5
StartLimitIntervalSec=0

[Install]
WantedBy=multi-user.target

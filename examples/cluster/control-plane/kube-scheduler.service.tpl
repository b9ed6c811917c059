[Unit]
Description=Kubernetes scheduler
Documentation=https://kubernetes.io/docs/reference/command-line-tools-reference/kube-scheduler/
After=kube-apiserver.service

[Service]
ExecStart=/opt/k8s/bin/kube-scheduler \
  --config=/etc/kubernetes/kube-scheduler.yaml \
  --bind-address=${address} \
  --secure-port=10259 \
  --tls-cert-file=${cert}/kube-scheduler.pem \
  --tls-private-key-file=${cert}/kube-scheduler-key.pem \
  --client-ca-file=${cert}/ca.pem \
  --requestheader-client-ca-file=${cert}/front-proxy-ca.pem \
  --requestheader-allowed-names=aggregator \
  --authentication-kubeconfig=/etc/kubernetes/kube-scheduler.kubeconfig \
  --authorization-kubeconfig=/etc/kubernetes/kube-scheduler.kubeconfig
Restart=always
RestartSec=5
StartLimitIntervalSec=0

[Install]
WantedBy=multi-user.target

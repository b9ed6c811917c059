[Unit]
Description=etcd
Documentation=https://etcd.io/docs/
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
WorkingDirectory=${data_dir}
ExecStart=/opt/k8s/bin/etcd \
  --name=${name} \
  --data-dir=${data_dir} \
  --wal-dir=${wal_dir} \
  --cert-file=/etc/etcd/cert/etcd.pem \
  --key-file=/etc/etcd/cert/etcd-key.pem \
  --trusted-ca-file=/etc/etcd/cert/ca.pem \
  --client-cert-auth \
  --peer-cert-file=/etc/etcd/cert/etcd.pem \
  --peer-key-file=/etc/etcd/cert/etcd-key.pem \
  --peer-trusted-ca-file=/etc/etcd/cert/ca.pem \
  --peer-client-cert-auth \
  --listen-peer-urls=${member.peer_url} \
  --initial-advertise-peer-urls=${member.peer_url} \
  --listen-client-urls=${member.client_url},https://127.0.0.1:2379 \
  --advertise-client-urls=${member.client_url} \
  --listen-metrics-urls=http://127.0.0.1:2381 \
  --initial-cluster-token=etcd-cluster-0 \
  --initial-cluster=${member.initial_cluster} \
  --initial-cluster-state=${member.initial_cluster_state} \
  --auto-compaction-mode=periodic \
  --auto-compaction-retention=1h \
  --max-request-bytes=33554432 \
  --quota-backend-bytes=6442450944 \
  --heartbeat-interval=250 \
%{ for argument in more_arguments ~}
  ${argument} \
%{ endfor ~}
  --election-timeout=2000
Restart=on-failure
RestartSec=5
TimeoutStartSec=5min
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target

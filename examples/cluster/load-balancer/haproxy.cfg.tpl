global
    log stderr format raw daemon notice
    user haproxy
    group haproxy

defaults
    mode tcp
    timeout connect 1s
    timeout client 10m
    timeout server 10m
    retries 3
    option redispatch 1

frontend kube_apiserver
    bind 127.0.0.1:8443
    default_backend kube_apiservers

# An API server that starts listens before it is ready, and one that stops reports it before it closes its port.
backend kube_apiservers
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    default-server check check-ssl verify required ca-file /etc/kube-haproxy/ca.pem inter 2s fastinter 500ms fall 2 rise 2 observe layer4 error-limit 1 on-error mark-down
%{ for backend in backends ~}
    server ${backend} ${backend}
%{ endfor ~}

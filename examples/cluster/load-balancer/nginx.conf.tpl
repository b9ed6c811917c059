load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1;
pid /run/kube-nginx.pid;
error_log stderr;

events {
    worker_connections 1024;
}

stream {
    upstream kube_apiserver {
        least_conn;
%{ for backend in backends ~}
        server ${backend} max_fails=3 fail_timeout=30s;
%{ endfor ~}
    }

    server {
        listen 127.0.0.1:8443;
        proxy_connect_timeout 1s;
        proxy_pass kube_apiserver;
    }
}

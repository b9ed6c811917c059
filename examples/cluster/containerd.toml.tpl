# Chapter 07: the container runtime.
version = 2
root    = "/var/lib/containerd"
state   = "/run/containerd"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/pause:3.6"
%{ for name, value in more ~}
${name} = ${value}
%{ endfor ~}

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir  = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd"

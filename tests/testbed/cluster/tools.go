//go:build tools

// Package tools pins the programs of a cluster that the testbed's own control plane
// does without: importing their main packages keeps the modules in go.mod through
// every `go mod tidy`.
package tools

import (
	_ "github.com/coredns/coredns"
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "sigs.k8s.io/metrics-server/cmd/metrics-server"
)

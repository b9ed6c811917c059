# shellcheck shell=bash
# Helm and kustomize, compiled from their Go modules.

HELM=v3.19.5
KUSTOMIZE=v5.7.1

# renderers : prints the folder of the programs, which are built when they are not in the cache.
renderers() {
	local directory
	directory=$CACHE/renderers-$(cache_key "$TESTBED/lib/renderers.sh")
	need_go
	cache_fill "$directory" renderers_recipe
	echo "$directory"
}

renderers_recipe() {
	export GOBIN=$1 CGO_ENABLED=0
	nice go install -trimpath -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@$HELM"
	nice go install -trimpath -ldflags '-s -w' "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE"
}

# shellcheck shell=bash
# A server that speaks S3: versitygw, compiled from its Go module.

VERSITYGW=v1.8.0

# s3_server : prints the path of the program, which is built when it is not in the cache.
s3_server() {
	local directory
	directory=$CACHE/versitygw-$(cache_key "$TESTBED/lib/s3.sh")
	need_go
	cache_fill "$directory" s3_recipe
	echo "$directory/versitygw"
}

s3_recipe() { GOBIN=$1 CGO_ENABLED=0 nice go install "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW"; }

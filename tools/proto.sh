#!/usr/bin/env bash
# Generates api/toklipv1 from the protobuf schema; with --check says whether the committed code is current.
# protoc comes from apt (protobuf-compiler; any version from 3.21 gives the same Go code), protoc-gen-go is pinned.
set -euo pipefail
cd "$(dirname "$0")/.."

protoc_gen_go=v1.36.12
if ! command -v protoc >/dev/null; then
	echo "proto: protoc not found; install it with: apt-get install protobuf-compiler" >&2
	exit 1
fi
plugins=$PWD/.cache/protoc-gen-go-$protoc_gen_go
if [ ! -x "$plugins/protoc-gen-go" ]; then
	# 77: could not be checked here (no network), as opposed to found wrong
	GOBIN=$plugins go install "google.golang.org/protobuf/cmd/protoc-gen-go@$protoc_gen_go" || exit 77
fi

out=.
if [ "${1:-}" = --check ]; then
	out=$(mktemp -d)
	trap 'rm -rf "$out"' EXIT
fi
PATH=$plugins:$PATH protoc -I api --go_out="$out" --go_opt=module=github.com/toklip/toklip toklip/v1/toklip.proto
# protoc's own version is in the head of the file and says nothing about its content.
sed -i '/^\/\/ \tprotoc  *v/d' "$out/api/toklipv1/toklip.pb.go"
if [ "$out" != . ]; then
	diff -u api/toklipv1/toklip.pb.go "$out/api/toklipv1/toklip.pb.go" || {
		echo "proto: api/toklipv1/toklip.pb.go is out of date; run: make proto" >&2
		exit 1
	}
	echo "proto: api/toklipv1 is current"
fi

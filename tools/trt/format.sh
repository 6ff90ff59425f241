#!/usr/bin/env bash
# Formats the C++ and CUDA code with a pinned clang-format, fetched once (2 MB) into .cache.
#   tools/trt/format.sh          formats
#   tools/trt/format.sh --check  fails if something is not formatted
set -euo pipefail
cd "$(dirname "$0")/../.."

tool=.cache/clang-format
pin=$(sha256sum tools/trt/format.txt | cut -d ' ' -f 1)
if [ "$(cat "$tool/.pinned" 2>/dev/null)" != "$pin" ]; then
	rm -rf "$tool" "$tool.new"
	PIP_ROOT_USER_ACTION=ignore python3 -m pip --disable-pip-version-check install -q --no-deps --only-binary=:all: \
		--require-hashes --no-compile --target "$tool.new" -r tools/trt/format.txt
	echo "$pin" >"$tool.new/.pinned"
	mv -T "$tool.new" "$tool"
fi
arguments=(-i)
[ "${1:-}" != --check ] || arguments=(--dry-run -Werror)
find csrc \( -name '*.cc' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.c' \) -print0 |
	xargs -0 "$tool/clang_format/data/bin/clang-format" --style=file "${arguments[@]}" || {
	echo "format: run make format" >&2
	exit 1
}

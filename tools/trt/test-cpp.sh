#!/usr/bin/env bash
# The C++ tests of csrc, once under the address and undefined behaviour sanitizers and once under the thread sanitizer.
# Needs cmake, a C++17 compiler and what make deps installs; no TensorRT, no GPU. Builds lie in .cache/build/csrc-asan and
# .cache/build/csrc-tsan; a second run compiles only what has changed.
#   tools/trt/test-cpp.sh            both
#   tools/trt/test-cpp.sh asan -R abi   one of them; further arguments go to ctest
set -euo pipefail
cd "$(dirname "$0")/../.."

kinds=(asan tsan)
case ${1:-} in
asan | tsan)
	kinds=("$1")
	shift
	;;
esac

mkdir -p .cache/build
for kind in "${kinds[@]}"; do
	case $kind in
	asan) sanitizers=address,undefined ;;
	tsan) sanitizers=thread ;;
	esac
	build=.cache/build/csrc-$kind
	log=$build.log
	# One at a time: two would compile into the same folder.
	exec 9>"$build.lock"
	flock 9
	{
		cmake -S csrc -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTOKLIP_TRT_TESTS=ON -DTOKLIP_TRT_SHIM=OFF \
			-DTOKLIP_CUDA_ARCHS=OFF -DTOKLIP_SANITIZE="$sanitizers" &&
			cmake --build "$build" --parallel "$(nproc)"
	} >"$log" 2>&1 || {
		tail -n 60 "$log" >&2
		echo "test-cpp: the build failed; all of its output is in $log" >&2
		exit 1
	}
	echo "test-cpp: $sanitizers"
	# Whatever a sanitizer finds ends the test.
	(
		cd "$build"
		ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
			TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 \
			ctest --output-on-failure --timeout 300 "$@"
	)
	exec 9>&-
done

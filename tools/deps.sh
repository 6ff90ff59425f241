#!/usr/bin/env bash
# Installs what toklip needs to build, run and pass its tests on Debian 12, Ubuntu 22.04 or JetPack, x86-64 or aarch64:
#   - OpenCV, GStreamer, FFmpeg and Mosquitto through apt (with sudo where one is not root);
#   - CMake, where TensorRT's headers are installed (what the tests of the TensorRT part need comes by tools/trt/deps.sh);
#   - ONNX Runtime's shared library, taken out of its PyPI wheel, version and SHA-256 pinned, into .cache/lib.
# A second run finds everything in place and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

ort_version=1.30.0
case "$(uname -m)" in
x86_64)
	ort_platform=manylinux_2_28_x86_64
	ort_sha256=fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328
	;;
aarch64)
	ort_platform=manylinux_2_28_aarch64
	ort_sha256=6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83
	;;
*)
	echo "deps: $(uname -m) is not supported: ONNX Runtime $ort_version is published for x86_64 and aarch64 only" >&2
	exit 1
	;;
esac

# What the program links or starts, and what its tests start as real peers.
packages=(
	build-essential pkg-config git ca-certificates
	libopencv-dev
	gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
	gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
	ffmpeg mosquitto mosquitto-clients
	protobuf-compiler procps python3 python3-pip
)
# Node.js validates the AsyncAPI document in the tests; any source of it will do.
command -v npm >/dev/null || packages+=(nodejs npm)
# Where TensorRT is installed, the shim over it is built.
if tools/trt/build.sh --headers >/dev/null; then packages+=(cmake); fi

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${packages[@]}"; do
	installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || {
		echo "deps: apt-get not found; install by hand: ${missing[*]}" >&2
		exit 1
	}
	as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || {
			echo "deps: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2
			exit 1
		}
		as_root=(sudo)
	fi
	echo "deps: installing ${missing[*]}"
	"${as_root[@]}" apt-get update -qq
	# Mosquitto's package starts a system service on port 1883, which toklip's own broker uses: it is only wanted as a program.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ] && ! installed mosquitto; then
		printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
		"${as_root[@]}" chmod +x "$policy"
		trap '"${as_root[@]}" rm -f "$policy"' EXIT
	fi
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

library=.cache/lib/libonnxruntime.so.$ort_version
if [ ! -e "$library" ] || [ ! -e .cache/lib/libonnxruntime.so ]; then
	echo "deps: fetching ONNX Runtime $ort_version for $(uname -m)"
	mkdir -p .cache/lib
	work=$(mktemp -d .cache/onnxruntime.XXXXXX)
	python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version 312 --platform "$ort_platform" -d "$work" "onnxruntime==$ort_version"
	wheel=$(echo "$work"/*.whl)
	echo "$ort_sha256  $wheel" | sha256sum --check --quiet || {
		echo "deps: $wheel is not the pinned ONNX Runtime $ort_version wheel; nothing was installed" >&2
		rm -rf "$work"
		exit 1
	}
	python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])' \
		"$wheel" "onnxruntime/capi/libonnxruntime.so.$ort_version" "$work"
	mv "$work/onnxruntime/capi/libonnxruntime.so.$ort_version" "$library"
	ln -sfn "libonnxruntime.so.$ort_version" .cache/lib/libonnxruntime.so
	rm -rf "$work"
fi
echo "deps: ready (ONNX Runtime $ort_version, OpenCV $(pkg-config --modversion opencv4))"

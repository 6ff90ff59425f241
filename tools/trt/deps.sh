#!/usr/bin/env bash
# Fetches what the tests of the TensorRT part need, into .cache/nvidia (about 0.8 GB to download, 1.3 GB on disk):
#   headers/*      TensorRT's and TensorRT-RTX's C++ headers, out of the crate trtx-sys: the shim is compiled against each
#   rtx-1.7/lib    TensorRT-RTX, out of its Python wheel: it builds real engines without a GPU
#   trt-10.15/lib  TensorRT 10.15's library and ONNX parser, out of a Maven artifact: its parser reads every graph
#   cuda-13.0      nvcc, out of NVIDIA's Python wheels: the kernels are compiled for every GPU
# and installs cmake, ninja and the aarch64 cross compiler through apt.
#
# `make test` calls this; `make build` and `make demo` never do, and on a device with JetPack nothing of it is used:
# there the shim is compiled against the TensorRT that JetPack brought.
#
# Licence: these files are NVIDIA's and under NVIDIA's terms (the headers of 10.0 and later: Apache-2.0). They are fetched
# from where NVIDIA and others publish them, for tests alone: nothing of them is committed to the repository or shipped.
#
# Versions and SHA-256 are pinned, here and in the .txt files beside this one. A part is put in place whole or not at all,
# so an interrupted run is simply started again; a second run finds everything in place and does nothing. pip, cargo and
# mvn use whatever mirror they are configured for.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=.cache/nvidia
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
maven_dependency=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
machine=$(uname -m)
case "$machine" in
x86_64)
	redist=linux-x86_64-redist
	redist_sha256=8543a6bda95c5d42141d409e1b74024b444e96334a3815d53997cc4ec3cfce83
	redist_size='534 MB'
	;;
aarch64)
	redist=linux-arm64-redist
	redist_sha256=db1b8b1bd4249b558fa17589f5abb3be43f2da1c4e4ae2d9ab19f32e8f92982d
	redist_size='748 MB'
	;;
*)
	echo "trt deps: $machine is not supported: NVIDIA publishes for x86_64 and aarch64" >&2
	exit 1
	;;
esac

fail() {
	echo "trt deps: $*" >&2
	exit 1
}

# One at a time: two runs would fetch the same files into the same folder.
mkdir -p "$root/download"
exec 9>"$root/.lock"
flock -n 9 || {
	echo "trt deps: waiting for another run"
	flock 9
}

# A part is a folder with a stamp of what was pinned when it was made.
ready() { # part pin
	[ "$(cat "$root/$1/.pinned" 2>/dev/null)" = "$2" ]
}

# Puts a finished folder in place.
place() { # part pin folder
	printf '%s\n' "$2" >"$3/.pinned"
	mkdir -p "$(dirname "$root/$1")"
	rm -rf "${root:?}/$1"
	mv -T "$3" "$root/$1"
}

check() { # sha256 file
	echo "$1  $2" | sha256sum --check --quiet 2>/dev/null ||
		fail "$2 is not the pinned file (want SHA-256 $1, have $(sha256sum "$2" | cut -d ' ' -f 1)); nothing was installed. Remove it and try again; if that does not help, the registry serves something else"
}

# ---- apt ----------------------------------------------------------------------------------------------------

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

wanted=()
need() { # package [command that will do as well]
	installed "$1" || { [ $# -gt 1 ] && command -v "$2" >/dev/null; } || wanted+=("$1")
}
apt_install() {
	[ ${#wanted[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || fail "apt-get not found; install by hand: ${wanted[*]}"
	local as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || fail "not root and no sudo; as root run: apt-get install ${wanted[*]}"
		as_root=(sudo)
	fi
	echo "trt deps: installing ${wanted[*]}"
	"${as_root[@]}" apt-get update -qq
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
	wanted=()
}

need g++ g++
need cmake cmake
need ninja-build ninja
need python3-pip pip3
[ "$machine" != x86_64 ] || need g++-aarch64-linux-gnu aarch64-linux-gnu-g++
apt_install

# ---- headers ------------------------------------------------------------------------------------------------

# Debian 12 has a cargo of today under another name; its plain one is too old for the registry's index.
# One that is there may be no more than rustup's, without a toolchain behind it.
cargo=cargo
need_cargo() {
	"$cargo" --version >/dev/null 2>&1 && return 0
	cargo=/usr/bin/cargo
	export RUSTC=/usr/bin/rustc
	"$cargo" --version >/dev/null 2>&1 && return 0
	if apt-cache show cargo-web >/dev/null 2>&1; then need cargo-web; else need cargo; fi
	apt_install
	"$cargo" --version >/dev/null 2>&1 || fail "cargo not found after installing it; install Rust 1.74 or later"
}

# Puts header sets out of one version of the crate in place. Pairs: folder of ours, folder in the crate.
headers() { # version sha256 (part folder)...
	local version=$1 sha256=$2 missing='' i
	shift 2
	local pairs=("$@")
	for ((i = 0; i < ${#pairs[@]}; i += 2)); do
		ready "headers/${pairs[i]}" "$sha256" || missing=1
	done
	[ -n "$missing" ] || return 0
	need_cargo
	echo "trt deps: fetching TensorRT headers (crate trtx-sys $version)"
	local work=$root/download/trtx-sys-$version
	rm -rf "$work"
	mkdir -p "$work/project/src"
	touch "$work/project/src/lib.rs"
	printf '[package]\nname = "headers"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\ntrtx-sys = "=%s"\n' \
		"$version" >"$work/project/Cargo.toml"
	# An old cargo refuses what other crates need after having fetched this one: the file decides, not the exit code.
	(cd "$work/project" && "$cargo" fetch -q) 2>"$work/cargo.log" || true
	local crate
	crate=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/cache" -name "trtx-sys-$version*.crate" 2>/dev/null | head -n 1 || true)
	[ -n "$crate" ] || fail "cargo fetch did not bring trtx-sys $version: $(head -n 3 "$work/cargo.log" | tr '\n' ' ')"
	check "$sha256" "$crate"
	tar -xzf "$crate" -C "$work" --strip-components 1 --wildcards '*/TensorRT-Headers/*'
	for ((i = 0; i < ${#pairs[@]}; i += 2)); do
		place "headers/${pairs[i]}" "$sha256" "$work/TensorRT-Headers/${pairs[i + 1]}"
	done
	rm -rf "$work"
}

headers 0.9.1 5480ee056292951daa1bc74532162d6cb75190f091e45d7d97c0c356916ae171 \
	trt-11.4 TRT-Enterprise-11.4 rtx-1.5 TRT-RTX-1.5 rtx-1.6 TRT-RTX-1.6 rtx-1.7 TRT-RTX-1.7
headers 0.6.0 a20ef33bdda170608d38ffaa604ad0587c2e8f9383ccb7945d4e8fc2202508d0 trt-11.0 TRT-Enterprise-11.0
headers 0.5.0 1efd9036abbd2775da5df4e49793ec8e656f026fb9c60dff7e95bda2d654e634 trt-10.16 TRT-Enterprise-10.16

# ---- libraries and compiler ----------------------------------------------------------------------------------

# Installs the wheels of a pinned list into a folder of their own. The list's hash is the pin.
wheels() { # list folder
	rm -rf "$2"
	python3 -m pip install -q --no-deps --only-binary=:all: --require-hashes --no-compile --no-warn-script-location \
		--target "$2" -r "tools/trt/$1"
}
pin_of() { sha256sum "tools/trt/$1" | cut -d ' ' -f 1; }

pin=$(pin_of rtx.txt)
if ! ready rtx-1.7 "$pin"; then
	echo "trt deps: fetching TensorRT-RTX 1.7 (95 MB)"
	work=$root/download/rtx
	wheels rtx.txt "$work"
	mkdir "$work/part" && mv "$work/tensorrt_rtx_libs" "$work/part/lib"
	place rtx-1.7 "$pin" "$work/part"
	rm -rf "$work"
fi

pin=$(pin_of cuda.txt)
if ! ready cuda-13.0 "$pin"; then
	echo "trt deps: fetching nvcc 13.0 (104 MB)"
	work=$root/download/cuda
	wheels cuda.txt "$work"
	place cuda-13.0 "$pin" "$work/nvidia/cu13"
	rm -rf "$work"
fi

if ! ready trt-10.15 "$redist_sha256"; then
	need maven mvn
	apt_install
	echo "trt deps: fetching TensorRT 10.15 ($redist_size)"
	# A repository of its own, kept until the file is in place: mvn goes on where it was interrupted.
	repository=$PWD/$root/download/maven
	mvn -q -B -Dstyle.color=never -Dmaven.repo.local="$repository" "$maven_dependency:get" -Dtransitive=false \
		-Dartifact="org.bytedeco:tensorrt:10.15-1.5.13:jar:$redist" >"$root/download/maven.log" 2>&1 ||
		fail "mvn did not bring TensorRT 10.15: $(grep -m 1 ERROR "$root/download/maven.log" || tail -n 1 "$root/download/maven.log")"
	jar=$(find "$repository/org/bytedeco" -name "tensorrt-*-$redist.jar")
	check "$redist_sha256" "$jar"
	work=$root/download/trt
	rm -rf "$work"
	mkdir -p "$work/lib"
	python3 - "$jar" "$work/lib" libnvinfer.so.10 libnvonnxparser.so.10 <<'PYTHON'
import os, shutil, sys, zipfile

jar, folder, names = sys.argv[1], sys.argv[2], sys.argv[3:]
with zipfile.ZipFile(jar) as z:
    entries = {os.path.basename(e): e for e in z.namelist()}
    for name in names:
        with z.open(entries[name]) as source, open(os.path.join(folder, name), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
PYTHON
	place trt-10.15 "$redist_sha256" "$work"
	rm -rf "$repository" "$root/download/maven.log"
fi

rmdir "$root/download" 2>/dev/null || true
echo "trt deps: ready (headers, TensorRT-RTX 1.7, TensorRT 10.15, nvcc 13.0)"

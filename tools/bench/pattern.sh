# Shared by memory.sh and text.sh: a daemon on a 1080p test pattern through worker, pipeline and embedded broker. Sourced, not run.
# shellcheck shell=bash
# Sets work, a folder that goes with the script.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# start_pattern NODE MODEL_DIR <<TOML: what else its configuration has. Sets port (of the broker) and daemon (its process), which ends
# with the script; the log is shown if it failed.
start_pattern() {
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	{
		cat <<TOML
node = "$1"
[model]
path = "$(realpath "$2")"
[mqtt]
listen = "127.0.0.1:$port"
metrics_interval = "1s"
[[camera]]
name = "pattern"
source = "test://pattern?name=noise&width=1920&height=1080&fps=15"
TOML
		cat
	} >"$work/toklip.toml"
	bin/toklip run --config "$work/toklip.toml" 2>"$work/log" &
	daemon=$!
	trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || cat "$work/log" >&2; rm -rf "$work"' EXIT
}

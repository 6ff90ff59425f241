#!/usr/bin/env bash
# What a change of labels costs while frames flow: time, and memory of the daemon and of its text process: text.sh MODEL_DIR [LABELS]
# The model needs a text tower and a tokenizer. A 1080p test pattern runs through worker, pipeline and embedded broker meanwhile.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$(realpath "$1") labels=${2:-20}

source tools/bench/pattern.sh
start_pattern bench-text "$model" <<TOML
[labels]
cache_dir = "$work/texts"
state_file = "none"
text_idle = "5s"
TOML
python3 - "$daemon" "$port" "$model" "$labels" <<'PYTHON'
import json, os, subprocess, sys, threading, time, tomllib

daemon, port, model, labels = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
topic = "toklip/bench-text"
with open(os.path.join(model, "model.toml"), "rb") as f:
    manifest = tomllib.load(f)
text = next(g for g in manifest["graph"] if g["role"] == "text")
weights = text["file"]["size"] + sum(d["size"] for d in text["data"])


def status(pid):
    """Sizes in bytes of /proc/PID/status; none if the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as f:
            lines = dict(line.split(":", 1) for line in f)
        return {k: int(lines[k].split()[0]) * 1024 for k in ("VmHWM", "VmRSS", "RssAnon", "RssFile") if k in lines}
    except (OSError, ValueError):
        return {}


def text_process():
    """The daemon's child that runs the text tower."""
    for thread in os.listdir(f"/proc/{daemon}/task"):
        try:
            with open(f"/proc/{daemon}/task/{thread}/children") as f:
                children = f.read().split()
        except OSError:
            continue
        for child in children:
            try:
                with open(f"/proc/{child}/cmdline", "rb") as f:
                    if f.read().split(b"\0")[1:2] == [b"text"]:
                        return child
            except OSError:
                pass
    return None


class Watch(threading.Thread):
    """The largest sizes seen of the daemon and of its text process."""

    def __init__(self):
        super().__init__(daemon=True)  # an error must not wait for it
        self.daemon_max, self.text_max, self.over, self.score = {}, {}, False, None

    def run(self):
        while not self.over:
            child = text_process()
            for largest, pid in ((self.daemon_max, daemon), (self.text_max, child)):
                for key, size in (status(pid) if pid else {}).items():
                    largest[key] = max(largest.get(key, 0), size)
            if child:  # it is told just after the start
                try:
                    with open(f"/proc/{child}/oom_score_adj") as f:
                        self.score = int(f.read())
                except OSError:
                    pass
            time.sleep(0.01)


def sub(what, wait):
    return subprocess.Popen(["mosquitto_sub", "-p", port, "-t", what, "-C", "1", "-W", str(wait), "-R"], stdout=subprocess.PIPE)


def command(verb, args):
    """The reply to a command, and after how many seconds it came."""
    waiting = sub("bench-text-reply", 3600)
    time.sleep(0.3)
    begun = time.monotonic()
    request = json.dumps({"id": verb, "reply_to": "bench-text-reply", "args": args})
    subprocess.run(["mosquitto_pub", "-p", port, "-t", f"{topic}/command/{verb}", "-q", "1", "-s"], input=request.encode(), check=True)
    reply = json.loads(waiting.communicate()[0])
    if not reply["ok"]:
        sys.exit(f"{verb}: {reply['error']}")
    return reply["result"], time.monotonic() - begun


class Frames:
    """Counts frames as a subscriber sees them."""

    def __enter__(self):
        self.begun = time.monotonic()
        self.sub = subprocess.Popen(["mosquitto_sub", "-p", port, "-t", f"{topic}/camera/pattern/tokens", "-F", "."], stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        self.sub.terminate()
        self.rate = self.sub.communicate()[0].count(b".") / (time.monotonic() - self.begun)


def mb(largest, key):
    return f"{largest.get(key, 0) / 1e6:.0f}"


for attempt in range(300):  # until the model is loaded and frames flow
    probe = subprocess.run(["mosquitto_sub", "-p", port, "-t", f"{topic}/camera/pattern/tokens/json", "-C", "1", "-W", "5"], capture_output=True)
    if probe.stdout:
        break
    os.kill(int(daemon), 0)
    time.sleep(1)
else:
    sys.exit("no frame came")
time.sleep(5)
before = status(daemon)
with Frames() as quiet:
    time.sleep(30)

names = [f"thing number {i}" for i in range(labels)]
watch = Watch()
watch.start()
with Frames() as busy:
    result, seconds = command("labels/set", {"labels": names})
again, cached = command("labels/set", {"labels": names[1:]})
watch.over = True
watch.join()
for attempt in range(200):
    if text_process() is None:
        break
    time.sleep(0.1)
else:
    sys.exit("the text process stays")
time.sleep(1)
after = status(daemon)

print(f"text tower in {manifest['text']['precision']}, {weights / 1e6:.0f} MB of weights; {labels} labels, {result['embedded']} texts")
print(f"  labels/set: {seconds:.1f} s; with everything cached {cached * 1000:.0f} ms ({again['embedded']} texts)")
print(f"  text process: peak {mb(watch.text_max, 'VmHWM')} MB, of it at most {mb(watch.text_max, 'RssAnon')} MB its own and "
      f"{mb(watch.text_max, 'RssFile')} MB of mapped files, which the system can take back; oom_score_adj {watch.score}; gone when idle")
print(f"  daemon: {mb(before, 'VmRSS')} MB before ({mb(before, 'RssAnon')} its own), at most {mb(watch.daemon_max, 'VmRSS')} meanwhile "
      f"({mb(watch.daemon_max, 'RssAnon')}), {mb(after, 'VmRSS')} after ({mb(after, 'RssAnon')}); peak since the start {mb(after, 'VmHWM')}")
print(f"  frames a second: {quiet.rate:.2f} before, {busy.rate:.2f} meanwhile")
PYTHON

#!/usr/bin/env bash
# Makes the demo model, its clip and its held-out set from nothing: about three and a half hours on two CPU cores that have bfloat16 (AMX).
# Every step resumes where it was cut off. Needs Python 3.11, ffmpeg and OSMesa
# (apt: libosmesa6). The work is done in .cache/demo-work, results go to demo/.
#
# SCENES=8 VQ_MINUTES=3 TOWER_MINUTES=2 tries all steps in some minutes, in a copy of the repository: results replace those in demo/.
#
# Random numbers have fixed seeds. Training ends by the clock, not by a count of steps, and two runs on different machines
# therefore give slightly different weights.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=.cache/demo-work
vq_minutes=${VQ_MINUTES:-110}
tower_minutes=${TOWER_MINUTES:-50}
scenes=${SCENES:-750} # of a file of frames, four views each
export MUJOCO_GL=osmesa
mkdir -p "$work/data"

if [[ ! -e $work/venv/ready ]]; then
	python3 -m venv "$work/venv"
	"$work/venv/bin/pip" install --quiet -r tools/demo/requirements.txt
	touch "$work/venv/ready"
fi
python=$work/venv/bin/python

render() { # file, seed, scenes, first scene
	[[ -e $work/data/$1 ]] || "$python" tools/demo/render.py "$work/data/$1" --seed "$2" --scenes "$3" --first "$4"
}
echo "train: rendering $((24 * 4 * scenes)) frames for training, 1000 to watch it by, 2000 held out"
render_every_second() { # first
	for ((i = $1; i < 24; i += 2)); do render "$(printf 'train%02d.npz' $i)" 1 "$scenes" $((i * scenes)); done
}
(
	render_every_second 0
	render heldout.npz 3 500 0
) &
first=$!
render_every_second 1
render val.npz 2 250 0
wait "$first"

echo "train: VQ tokenizer, $vq_minutes minutes"
"$python" tools/demo/vq.py "$work" --minutes "$vq_minutes"
if [[ ! $work/tokens_val.npz -nt $work/vq.pt ]]; then
	rm -f "$work/towers.pt" # they learnt other tokens
	"$python" tools/demo/tokens.py "$work"
fi
echo "train: token encoder and text tower, $tower_minutes minutes"
"$python" tools/demo/towers.py "$work" --minutes "$tower_minutes"

"$python" tools/demo/export.py "$work" demo
"$python" tools/demo/clip.py demo/clip.mp4 demo/clip-truth.json
"$python" tools/demo/heldout.py write "$work" demo/heldout --frames 600 --captions 300
"$python" tools/demo/heldout.py write "$work" "$work/heldout2000"
"$python" tools/demo/heldout.py evaluate "$work" demo "$work/heldout2000" "$work/heldout2000.json"
"$python" tools/demo/report.py "$work" demo/report.json
"$python" tools/demo/figures.py summary demo/report.json

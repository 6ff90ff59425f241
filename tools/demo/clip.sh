#!/usr/bin/env bash
# Makes demo/clip.mp4: three photographs (public domain / CC0, testdata/reference/images) under a camera that
# pans and zooms and stands still in between, so that both changing and unchanged frames are seen.
set -euo pipefail
cd "$(dirname "$0")/../.."
images=testdata/reference/images
fps=15
shot=$((8 * fps)) # frames of one photograph; the last 3 s stand still
move=$((5 * fps))

# zoompan moves in whole pixels: enlarging first makes the movement smooth.
view() { # name, zoom, x, y: expressions in t = 0..1 over the movement
	echo "scale=2560:1920:force_original_aspect_ratio=increase:flags=bicubic,crop=2560:1920,zoompan=d=$shot:s=640x480:fps=$fps:z='$2':x='$3':y='$4',format=yuv420p[$1]"
}
t="min(on/$move\,1)"
ffmpeg -hide_banner -loglevel error -y \
	-i $images/astronaut.png -i $images/chelsea.png -i $images/coffee.png \
	-filter_complex "
		[0:v]$(view a "1+0.8*$t" "(iw-iw/zoom)*(0.5-0.2*$t)" "(ih-ih/zoom)*0.2*$t");
		[1:v]$(view b "1.8-0.6*$t" "(iw-iw/zoom)*(0.2+0.5*$t)" "(ih-ih/zoom)*0.4");
		[2:v]$(view c "1.5" "(iw-iw/zoom)*$t" "(ih-ih/zoom)*(0.8-0.6*$t)");
		[a][b][c]concat=n=3:v=1:a=0[out]" \
	-map '[out]' -c:v libx264 -preset veryslow -crf 26 -g $((2 * fps)) -movflags +faststart -map_metadata -1 demo/clip.mp4

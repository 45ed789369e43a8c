#!/usr/bin/env bash
# A recording that pauses has a gap in the time stamps of its sound. In Matroska, and in MP4 and MOV with AAC, the gap is
# still there when the file is read (av 17.1.0 with libavformat 62.12.101): what follows comes at its second. In MOV with PCM it is gone:
# the same packets are written without a word, and all that follows the pause is heard that much too early beside the
# pictures. What one would guess: MOV's sample table holds a duration for each packet, so that a gap survives, whatever
# the codec.
# Output seen (Linux x86_64, Python 3.11), for sound of 1 s, a pause of 2 s, and sound of 1 s:
#   a.mkv pcm_s16le: sound ends at 4.00 s
#   a.mp4 aac: sound ends at 4.05 s
#   a.mov aac: sound ends at 4.05 s
#   a.mov pcm_s16le: sound ends at 2.00 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==17.1.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
from fractions import Fraction

import av
import numpy as np

RATE = 16_000
samples = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


def end_of(name, codec):
    with av.open(name, "w") as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        for begin in (0, 3):
            for first in range(0, RATE, 1000):
                frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1000], "fltp", "mono")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = begin * RATE + first
                for packet in stream.encode(frame):
                    file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    with av.open(name) as file:
        *_, last = file.decode(audio=0)
        return float(last.pts * last.time_base) + last.samples / last.sample_rate


ends = {}
for name, codec in (("a.mkv", "pcm_s16le"), ("a.mp4", "aac"), ("a.mov", "aac"), ("a.mov", "pcm_s16le")):
    ends[name, codec] = end_of(name, codec)
    print(f"{name} {codec}: sound ends at {ends[name, codec]:.2f} s")
forgotten = ends.pop(("a.mov", "pcm_s16le"))
assert all(abs(end - 4.0) < 0.15 for end in ends.values()), ends
assert abs(forgotten - 2.0) < 0.05, "MOV keeps the gap of PCM now"
PROGRAM

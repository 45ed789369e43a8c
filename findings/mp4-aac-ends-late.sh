#!/usr/bin/env bash
# An MP4 file states how many samples of AAC it holds, to the sample: its last packet is as long as what was left to encode.
# What one would guess: decoding gives as many samples. What happens, with PyAV 17.1.0 (its own FFmpeg): the last frame is
# given whole, 1024 samples of which all after the stated end are the coder's ringing, so that a clip is up to 64 ms longer
# at 16 kHz than its container, its stream and its packets say. Cut it there, or know that you do not: functionals of
# eGeMAPS over a clip of two seconds move by up to a fifth of their largest value.
# Output seen (Linux x86_64, Python 3.11):
#   stated 37024, of packets 37024, decoded 37888
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==17.1.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import av
import numpy as np

RATE, LENGTH = 16_000, 37_024
with av.open("tone.mp4", "w") as file:
    stream = file.add_stream("aac", rate=RATE, layout="mono")
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(LENGTH) / RATE, dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = RATE, 0
    for packet in (*stream.encode(frame), *stream.encode(None)):
        file.mux(packet)
with av.open("tone.mp4") as file:
    (stream,) = file.streams.audio
    stated = round(stream.duration * stream.time_base * RATE)
    durations = [packet.duration for packet in file.demux(stream) if packet.pts is not None and packet.pts >= 0]
    of_packets = round(sum(durations) * stream.time_base * RATE)
with av.open("tone.mp4") as file:
    decoded = sum(frame.samples for frame in file.decode(audio=0))
print(f"stated {stated}, of packets {of_packets}, decoded {decoded}")
assert (stated, of_packets, decoded) == (37_024, 37_024, 37_888)
PROGRAM

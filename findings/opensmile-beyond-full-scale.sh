#!/usr/bin/env bash
# opensmile 2.6.0 turns float samples into 16 bits without clipping them: beyond full scale they come out with the other
# sign. Decoders of lossy formats give such floats as a matter of course: an MP3 of a loud voice decodes (av 17.1.0) to
# peaks above 1. What one would guess: floats are clipped, or processed as floats. What happens: the voice below, of
# which all frames are voiced, loses its pitch in all of them, without a warning.
# Output seen (Linux x86_64, Python 3.11):
#   peak of the decoded MP3: 1.3
#   voiced frames: 1.00 of the quiet voice, 0.00 as decoded, 1.00 clipped to full scale
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==17.1.0 opensmile==2.6.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import warnings

import av
import numpy as np
import opensmile

warnings.simplefilter("ignore")
RATE = 16_000
time = np.arange(3 * RATE) / RATE
voice = sum(np.sin(2 * np.pi * 140 * number * time) / number for number in range(1, 20))
voice = (0.3 * voice / np.abs(voice).max()).astype(np.float32)

with av.open("loud.mp3", "w") as file:
    stream = file.add_stream("libmp3lame", rate=RATE, layout="mono")
    frame = av.AudioFrame.from_ndarray(10 * voice[None], "fltp", "mono")
    frame.sample_rate, frame.pts = RATE, 0
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        file.mux(packet)
with av.open("loud.mp3") as file:
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])

smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)


def voiced(samples):
    return float((smile.process_signal(samples, RATE)["F0semitoneFrom27.5Hz_sma3nz"] > 0).mean())


quiet, wrapped, clipped = voiced(voice), voiced(decoded), voiced(np.clip(decoded, -1, 1 - 2**-15))
print(f"peak of the decoded MP3: {np.abs(decoded).max():.1f}")
print(f"voiced frames: {quiet:.2f} of the quiet voice, {wrapped:.2f} as decoded, {clipped:.2f} clipped to full scale")
assert np.abs(decoded).max() > 1.1
assert quiet > 0.9 and clipped > 0.9
assert wrapped < 0.6 * clipped, "floats beyond full scale no longer lose their pitch"
PROGRAM

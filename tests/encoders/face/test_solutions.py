from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from encoders.face.solutions import solutions
print(hasattr(solutions, "face_mesh"), {"matplotlib", "matplotlib.pyplot", "sounddevice"} & set(sys.modules))
from mediapipe.python.solutions import drawing_utils
import matplotlib.pyplot
print(drawing_utils.plt.figure is matplotlib.pyplot.figure)
"""


def test_drawing_is_imported_when_it_is_used() -> None:
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert finished.stdout.split("\n")[:2] == ["True set()", "True"], finished.stderr

"""The demo corpora: drawn faces and synthesised voices that act emotions, traits and hesitancy, with known truth.

script (what is acted) -> face + voice + text -> clip (a video) -> layouts (as the four corpora publish theirs)

and a fifth corpus whose labels are in time: spells (what happens when) -> frames (videos, and BAH's layout)
"""

from corpora.demo.build import MARKER, build_demo

__all__ = ["MARKER", "build_demo"]

"""The demo corpora: drawn faces and synthesised voices that act emotions, traits and hesitancy, with known truth.

script (what is acted) -> face + voice + text -> clip (a video) -> layouts (as the four corpora publish theirs)
"""

from corpora.demo.build import MARKER, build_demo

__all__ = ["MARKER", "build_demo"]

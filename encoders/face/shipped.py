"""Face pictures that a corpus ships: which of them show a face, told by their size.

BAH has a picture `frame-N.jpg` for every decoded frame, N from 0: the aligned face, 256 x 256. Where none was found
the face before is repeated; before the first face the whole picture is stored, at its own size. T frames.

References:
    González-González et al., BAH Dataset for Ambivalence/Hesitancy Recognition in Videos for Digital Behavioural
    Change, ICLR 2026.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError

__all__ = ["FACE_SIDE", "no_face_frames", "shipped_pictures"]

FACE_SIDE = 256
"""Width and height of BAH's aligned faces, pixels."""
_NAME = re.compile(r"frame-(\d{1,8})\.(?:jpe?g|png)", re.IGNORECASE)


def shipped_pictures(folder: Path) -> dict[int, Path]:
    """List the pictures `frame-N` of a folder by N, in the order of N.

    Raises:
        EncodingError: the folder cannot be read.
    """
    try:
        matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError as error:
        raise EncodingError(f"{folder}: no folder of face pictures that can be read ({error.strerror})") from None
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def no_face_frames(folder: Path, side: int = FACE_SIDE) -> NDArray[np.bool_]:
    """Mark the frames whose picture is no aligned face: of another size, missing, or no picture.

    Only the pictures' heads are read.

    Args:
        folder: of pictures `frame-N.jpg` or `.png`, N from 0.
        side: width and height of an aligned face, pixels.

    Returns:
        Whether frame N shows no face, `[T]`, T one more than the highest number; `[0]` of a folder without pictures.

    Raises:
        EncodingError: the folder cannot be read.
    """
    from PIL import Image

    pictures = shipped_pictures(folder)
    none = np.ones(max(pictures, default=-1) + 1, dtype=bool)
    for number, path in pictures.items():
        try:
            with Image.open(path) as picture:
                none[number] = picture.size != (side, side)
        except (OSError, Image.DecompressionBombError):
            continue
    return none

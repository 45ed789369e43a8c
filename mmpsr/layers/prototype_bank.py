"""Classes as points of a text encoder's space, kept with a model's weights: how near a clip's words are to each.

Shape suffixes: B or N clips, P poles (1, or for regression high and low), C classes or traits, W width of the space,
G columns of all tasks and modalities.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Points", "PrototypeBank", "Prototypes", "stored_points"]

Points = Mapping[str, Mapping[str, Tensor]]
"""Task -> modality -> points `[P, C, W]` of `mmpsr.prototypes.points.embed_prototypes`."""
SCALE = 10.0
"""Factor on similarities, whose deviation over clips is about a tenth."""


class Prototypes(nn.Module):
    """How near the vectors of a modality are to the classes of a task, as `mmpsr.prototypes.points.similarities`.

        s_c = 10 (cos(unit(x) - m, g_c - m) - mean_c),   m = mean of all g;   for traits high minus low

    Means are those of the training clips after `fit`; clips without the modality get zeros.

    Args:
        points_PCW: of the classes.
    """

    points: Tensor
    means: Tensor

    def __init__(self, points_PCW: Tensor) -> None:
        super().__init__()
        self.register_buffer("points", points_PCW.detach().float().clone())
        self.register_buffer("means", torch.zeros(points_PCW.shape[1]))

    def similarities(self, vectors_BD: Tensor) -> Tensor:
        """Compare the first W columns of vectors, the mean over tokens, `[B, C]`."""
        poles = self.points.shape[0]
        middle_W = self.points.mean(dim=(0, 1))
        seen_BW = functional.normalize(vectors_BD[:, : self.points.shape[2]].float(), dim=1) - middle_W
        points_PCW = functional.normalize(self.points - middle_W, dim=2)
        near_BPC = torch.einsum("bw,pcw->bpc", functional.normalize(seen_BW, dim=1), points_PCW)
        return near_BPC[:, 0] - near_BPC[:, 1] if poles == 2 else near_BPC[:, 0]

    @torch.no_grad()
    def fit(self, vectors_ND: Tensor, present_N: Tensor) -> None:
        """Take the mean similarities of the present rows."""
        if present_N.any():
            self.means.copy_(self.similarities(vectors_ND[present_N]).mean(dim=0))

    def forward(self, vectors_BD: Tensor, present_B: Tensor) -> Tensor:
        """Compute `[B, C]`, zeros for rows that are not present."""
        scores_BC = SCALE * (self.similarities(vectors_BD) - self.means)
        return torch.where(present_B.unsqueeze(1), scores_BC, 0.0)


class PrototypeBank(nn.ModuleDict):
    """The prototypes of all tasks that have texts, in all modalities of a text encoder's space.

    Columns are in the order of names, of tasks and then of modalities: a file of weights keeps no other.

    Args:
        points: by task and modality.
    """

    def __init__(self, points: Points) -> None:
        super().__init__(
            {
                task: nn.ModuleDict({name: Prototypes(points[task][name]) for name in sorted(points[task])})
                for task in sorted(points)
            }
        )

    def blocks(self) -> list[tuple[str, str, Prototypes]]:
        """List task, modality and prototypes in the order of the columns."""
        return [(task, name, part) for task, of in self.items() for name, part in of.items()]  # type: ignore[operator]

    @property
    def width(self) -> int:
        """Number of columns G."""
        return sum(part.points.shape[1] for _, _, part in self.blocks())

    def places(self, task: str, start: int = 0) -> dict[str, slice]:
        """Tell which columns are a task's, by modality.

        Args:
            task: name.
            start: number of the first column of all.
        """
        found = {}
        for owner, name, part in self.blocks():
            end = start + part.points.shape[1]
            if owner == task:
                found[name] = slice(start, end)
            start = end
        return found

    def fit(self, features: Mapping[str, Tensor], presence_NM: Tensor, rows: Tensor) -> None:
        """Take mean similarities over rows of clips."""
        names = list(features)
        for _, name, part in self.blocks():
            part.fit(features[name][rows], presence_NM[rows, names.index(name)])

    def forward(self, features: Mapping[str, Tensor], presence_BM: Tensor) -> Tensor:
        """Compute the columns of clips, `[B, G]`."""
        names = list(features)
        blocks = [part(features[name], presence_BM[:, names.index(name)]) for _, name, part in self.blocks()]
        return torch.cat(blocks, dim=1)


def stored_points(
    weights: Mapping[str, Tensor], before: str = "prototypes.", between: str = "."
) -> dict[str, dict[str, Tensor]]:
    """Find the points among stored weights, by task and modality.

    Args:
        weights: by name, of points `<before><task><between><modality>.points`.
        before: how their names begin.
        between: what parts task and modality.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        middle = name.removeprefix(before).removesuffix(".points")
        if name == f"{before}{middle}.points" and between in middle:
            task, modality = middle.rsplit(between, 1)
            found.setdefault(task, {})[modality] = tensor
    return found

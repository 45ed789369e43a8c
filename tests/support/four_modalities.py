"""Models with random weights over four modalities, and clips that lack some of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.layers.prototype_bank import Points
from mmpsr.models.base import FusionModel
from mmpsr.models.build import create_model
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec

WIDTHS = {"video": 6, "audio": 5, "text": 4, "behavior": 3}
PRESENCE = torch.tensor([[True, True, True, True], [True, False, True, False], [False, False, False, False]])
CALIBRATION = Calibration(
    tasks={
        "emotion": TaskCalibration(form="softmax", num_clips=9, temperature=2.0),
        "ambivalence": TaskCalibration(form="softmax", num_clips=9, temperature=0.5),
    }
)


def model_of(
    config: ModelConfig | ConflictAwareConfig,
    sequence_widths: dict[str, int] | None = None,
    widths: Mapping[str, int] = WIDTHS,
    tasks: Mapping[str, TaskSpec] = BUILTIN_TASKS,
    points: Points | None = None,
    sees_absence: bool = False,
    guide_points: Points | None = None,
) -> FusionModel:
    torch.manual_seed(0)
    model = create_model(config, widths, tasks, sequence_widths, points, sees_absence, guide_points).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4)
    return model


def batch_of(presence: torch.Tensor = PRESENCE, with_sequences: bool = False) -> Batch:
    torch.manual_seed(1)
    features = {name: torch.randn(len(presence), width) for name, width in WIDTHS.items()}
    mask = torch.arange(7) < torch.tensor([[7], [4], [3]])
    sequences = {"audio": (torch.randn(3, 7, 2), mask)} if with_sequences else {}
    return Batch(features, presence, sequences=sequences)


MCDM_CONFIG = ModelConfig(hidden_width=8, head_width=8, num_heads=2, text_head=True)
AWARE_CONFIG = ConflictAwareConfig(hidden_width=4, head_width=4, window={"audio": 3}, num_windows=2)

"""What is called from Python: train and evaluate as the commands do, with results that show as tables.

configuration -> train -> trained run -> evaluate, predictor
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from training.interactive.runs import Evaluation, TrainedRun, evaluate, train
else:
    __getattr__ = on_demand(__name__, "runs")

__all__ = ["Evaluation", "TrainedRun", "evaluate", "train"]

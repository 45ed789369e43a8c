"""Explanations of predictions: Shapley values of modalities, conflicts between them, attention and prototypes.

phi_m = mean over orders of f(S + m) - f(S); the sum over m is f(all) - f(none)
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.explanation.explain import Explanation, TaskExplanation
    from mmpsr.explanation.shapley import Attribution, attribute, shapley_values
else:
    __getattr__ = on_demand(__name__, "explain", "shapley")

__all__ = ["Attribution", "Explanation", "TaskExplanation", "attribute", "shapley_values"]

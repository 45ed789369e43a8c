"""Explanations of predictions: Shapley values of modalities, interactions and conflicts, attention, prototypes.

phi_m = mean over orders of f(S + m) - f(S); the sum over m is f(all) - f(none). Of two modalities, the interaction is
the mean of f(S + i + j) - f(S + i) - f(S + j) + f(S)
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.explanation.explain import Explanation, TaskExplanation
    from mmpsr.explanation.shapley import Attribution, attribute, interaction_indices, shapley_values
else:
    __getattr__ = on_demand(__name__, "explain", "shapley")

__all__ = ["Attribution", "Explanation", "TaskExplanation", "attribute", "interaction_indices", "shapley_values"]

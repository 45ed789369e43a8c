"""Several models of one shape as one: the members of a stack, each with weights, dropout and losses of its own.

    clips of all members [S B, ...] -> layers whose parameters are [S, ...] -> losses [S] -> gradients [S, ...]

No layer of a model mixes clips, so a stack runs the models' own code on the clips of all members, member after member;
only the products with weights, dropout and sums over clips know whose a clip is. A step then issues about as many
kernels as that of one model.
"""

from mmpsr.stacked.gradients import form_member_gradients, member_gramian, member_squared_norms
from mmpsr.stacked.model import StackedModel, require_alike
from mmpsr.stacked.objective import MemberTerms, StackedObjective

__all__ = [
    "MemberDraws", "MemberTerms", "StackedModel", "StackedObjective", "form_member_gradients", "member_gramian",
    "member_squared_norms", "require_alike",
]  # fmt: skip

"""Label shift of a corpus without labels: how it shifts the logits, how frequent its classes are.

A model that was trained on other recordings puts the logits of a new corpus elsewhere, and expects its own corpora's
classes. Both can be estimated from the new corpus' predictions alone. Whoever does so looks at the inputs of what is
evaluated, so that figures of it are not zero-shot and carry a name of their own.

Shape suffixes: N clips, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from mmpsr.calibration.calibration import Form, logits_of
from mmpsr.decisions import Array

__all__ = ["LabelShift"]

NUM_ITERATIONS = 10_000
TOLERANCE = 1e-9  # of every class' share, from one iteration to the next


@dataclass(frozen=True)
class LabelShift:
    """How the classes of a corpus are decided, one to each clip, from its clips' predictions without their labels.

    Of a class' logits on the corpus, z are those standardised to mean 0 and deviation 1, which takes away what the new
    recordings shift and stretch. With the classes' shares pi,

        P(c | clip) = pi_c exp(z_c) / sum_k pi_k exp(z_k),

    and pi maximises the likelihood of the clips, sum_clips log sum_c pi_c exp(z_c), by expectation maximisation from
    equal shares: pi becomes the mean of P until it stays.

    Attributes:
        form: what the predictions are, probabilities of classes that exclude each other or of independent ones.
        means: of the logits, `[C]`.
        deviations: of the logits, `[C]`; 1 for a class whose logits are all the same.
        shares: pi, `[C]`, which sum to 1.

    References:
        Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori probabilities: a simple
        procedure. Neural Computation 14, 2002.

    Example:
        >>> sure, unsure = [0.9, 0.1], [0.6, 0.4]
        >>> shift = LabelShift.fit(np.array([sure, unsure]), "softmax")
        >>> shift.apply(np.array([sure, unsure])).argmax(axis=1).tolist()
        [0, 1]
    """

    form: Form
    means: Array
    deviations: Array
    shares: Array

    @classmethod
    def fit(cls, probabilities_NC: Array, form: Form) -> LabelShift:
        """Estimate all from a corpus' predictions.

        Args:
            probabilities_NC: of `softmax` or `sigmoid` form, at least one clip, all finite.
            form: of the predictions.

        Raises:
            ValueError: there is no clip, a prediction is not finite, or the predictions are scores.
        """
        if not len(probabilities_NC) or not np.isfinite(probabilities_NC).all() or form == "score":
            raise ValueError(
                f"a label shift needs finite probabilities of at least one clip, found {len(probabilities_NC)} clips "
                f"of form {form!r}, {int((~np.isfinite(probabilities_NC)).sum())} values of them not finite"
            )
        logits_NC = _logits(probabilities_NC, form)
        deviations_C = logits_NC.std(axis=0)
        flat = deviations_C <= 1e-9 * np.abs(logits_NC).mean(axis=0).clip(min=1.0)
        means_C, deviations_C = logits_NC.mean(axis=0), np.where(flat, 1.0, deviations_C)
        likelihoods_NC = np.exp((logits_NC - means_C) / deviations_C)
        shares_C = np.full(logits_NC.shape[1], 1.0 / logits_NC.shape[1])
        for _ in range(NUM_ITERATIONS):
            weighted_NC = likelihoods_NC * shares_C
            previous_C, shares_C = shares_C, (weighted_NC / weighted_NC.sum(axis=1, keepdims=True)).mean(axis=0)
            if np.abs(shares_C - previous_C).max() < TOLERANCE:
                break
        return cls(form, means_C, deviations_C, shares_C)

    def apply(self, probabilities_NC: Array) -> Array:
        """Give probabilities of one class per clip, `[N, C]`, rows of which sum to 1."""
        standardized_NC = (_logits(probabilities_NC, self.form) - self.means) / self.deviations
        with np.errstate(divide="ignore"):  # a class that no clip has
            return softmax(standardized_NC + np.log(self.shares), axis=1)


def _logits(probabilities_NC: Array, form: Form) -> Array:
    """Find logits; of a softmax, which leaves a constant per clip open, those that sum to 0."""
    logits_NC = logits_of(probabilities_NC, form)
    return logits_NC - logits_NC.mean(axis=1, keepdims=True) if form == "softmax" else logits_NC

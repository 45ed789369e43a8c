"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Intervals are made of few resamples: `pytestmark = pytest.mark.usefixtures("few_resamples")`."""
    from tests.support import stored_run  # which imports much

    with stored_run.few_resamples():
        yield

"""The science: tasks, batches, models, losses, balancing and metrics, in torch and numpy alone.

It is also the door for who writes Python: what `__all__` names is imported when it is first asked for, from the
packages beside this one, so that `import mmpsr` itself imports nothing.

```python
from mmpsr import Predictor, MultiTaskEstimator, evaluate, train
```
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["MultiTaskEstimator", "Predictor", "evaluate", "train"]

_HOMES = {
    "MultiTaskEstimator": "training.estimator.estimator",
    "Predictor": "training.predict.predictor",
    "evaluate": "training.interactive.runs",
    "train": "training.interactive.runs",
}
_PACKAGES = ("corpora", "encoders", "training", "tuning")
_ROOT = Path(__file__).resolve().parent.parent


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mmpsr' has no attribute {name!r}")
    for package in _PACKAGES:
        _take_own(package)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _take_own(package: str) -> None:
    """See that the package beside this one is what its name means, whatever lies in the working folder.

    Raises:
        ImportError: something else of that name is imported already; its file is named.
    """
    own = _ROOT / package / "__init__.py"
    loaded = sys.modules.get(package)
    if loaded is not None:
        place = getattr(loaded, "__file__", None)
        if place is None or Path(place).resolve() != own:
            raise ImportError(
                f"{place or list(getattr(loaded, '__path__', []))} is imported as {package!r} and hides the package of "
                f"that name that belongs to mmpsr; rename it, or import mmpsr's names before it"
            )
        return
    found = importlib.machinery.PathFinder.find_spec(package)
    if found is not None and found.origin is not None and Path(found.origin).resolve() == own:
        return
    spec = importlib.util.spec_from_file_location(package, own, submodule_search_locations=[str(own.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)
    if found is not None and found.origin is not None:
        sys.path.insert(0, str(_ROOT))  # for worker processes, which are given this list,
        os.environ["PYTHONSAFEPATH"] = "1"  # and for the one that forks them, which would look into the working folder
        warnings.warn(
            f"{found.origin} has the name of a package of mmpsr; `import {package}` gives mmpsr's from now on: rename "
            "the file to import it",
            stacklevel=3,
        )

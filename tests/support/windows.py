"""Windows of a document of `mmpsr predict`, made up by hand."""

from __future__ import annotations

from typing import Any

EMOTION = {
    "kind": "multi_label", "classes": ["Anger", "Sadness", "Neutral"],
    "thresholds": {"Anger": 0.5, "Sadness": 0.25, "Neutral": 0.5},
}  # fmt: skip
TRAITS = {"kind": "regression", "classes": ["openness", "extraversion"]}
DOUBT = {"kind": "single_label", "classes": ["absent", "present"]}


def window(number: int, task: str = "emotion", length: float = 10.0, **values: float) -> dict[str, Any]:
    """A window of ten seconds in which classes from 0.5 on are decided for."""
    decided = [name for name, value in values.items() if value >= 0.5]
    result = {"values": values, "decided": decided, "abstained": False, "intervals": {}}
    return {"start": number * length, "end": (number + 1) * length, "tasks": {task: result}, "absent": {}}


def with_sadness(*values: float) -> list[dict[str, Any]]:
    return [window(number, Anger=0.1, Sadness=value, Neutral=0.9) for number, value in enumerate(values)]

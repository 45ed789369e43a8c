"""The two ways in which a command ends early without a defect of the program: an error of the user's, or their wish.

Whatever derives from `UserError` says in its message what was found, where, and what to do; a command prints that one
sentence in place of a traceback (`training.commands.common.guarded`).
"""

from __future__ import annotations

__all__ = ["Interrupted", "UserError"]


class UserError(ValueError):
    """Something that the user can mend: a file, a setting, a machine; the message says how."""


class Interrupted(Exception):  # noqa: N818  a wish of the user's, not an error
    """SIGINT or SIGTERM came and work stopped where it can be continued; the message, if any, says how."""

"""The door for other people's code: what a recipe or a command can name, from outside the package.

    from pipeline.plugins import register

    @register.loss("my-loss")
    class MyLoss(nn.Module): ...

A plugin is a file or a module whose text registers names. Its names are read from the text, so a
command that is served from the cache imports none; it is imported when something of it is made.
Nothing is imported because a file in a workspace names it: only what the user gives
(``reidpipe --plugin``, ``REIDPIPE_PLUGINS``) or has installed (entry points ``reidpipe.plugins``).
"""

from __future__ import annotations

from pipeline.plugins.door import Door, described, digests, require
from pipeline.plugins.registry import (
    ensure,
    from_environment,
    given,
    load_given,
    plugins,
    register,
    use,
)

__all__ = [
    "Door",
    "described",
    "digests",
    "ensure",
    "from_environment",
    "given",
    "load_given",
    "plugins",
    "register",
    "require",
    "use",
]

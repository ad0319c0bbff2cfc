"""Where commands are struck: one path, so that no file names another, laid out anew each time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pipeline.artifacts.store import Workspace
from tests.chaos import children
from tests.chaos.children import Story
from tests.chaos.commands import Command, commands, people, photographs
from tests.chaos.equality import Comparison, compare


class Ground:
    """A folder of its own for everything that is run.

    ``root``: the workspace that commands are given. What each command left when it was left in
    peace, and its story, are made when they are asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "at"
        self.root = self.place / "workspace"
        shown, known = photographs(folder / "photographs"), people(folder / "people")
        self.commands = commands(shown, known, self.root)
        self.stories: dict[str, Story] = {}

    def lay(self, command: Command) -> None:
        """The ground as ``command`` finds it when all it stands on was left in peace."""
        self.lay_after(command.after)

    def lay_after(self, name: str | None) -> None:
        """What the command of this name leaves in peace; None: nothing."""
        left = None if name is None else self.left_by(name)
        shutil.rmtree(self.place, ignore_errors=True)
        if left is None:
            self.place.mkdir(parents=True)
        else:
            shutil.copytree(left, self.place, symlinks=True)

    def run(self, command: Command, **how: Any) -> Story:
        """``command`` on the ground as it is."""
        return children.run(command.words, self.root, **{"prepare": alone, **how})

    def left_by(self, name: str) -> Path:
        """What the command of this name leaves when nothing happens to it."""
        kept = self.folder / "left" / name
        if name not in self.stories:
            command = self.commands[name]
            self.lay(command)
            story = self.run(command)
            if story.code or story.left:
                raise RuntimeError(f"{name} in peace: exit {story.code}, {story.stderr[-2000:]}")
            self.stories[name] = story
            kept.parent.mkdir(exist_ok=True)
            self.place.rename(kept)
        return kept

    def story(self, name: str) -> Story:
        """Of the command of this name when nothing happens to it."""
        self.left_by(name)
        return self.stories[name]

    def compared(self, name: str) -> Comparison:
        """The ground beside what the command of this name leaves in peace."""
        return compare(self.place, self.left_by(name))

    def believed(self) -> list[str]:
        """Files of artifacts that count as complete and are not as they were written."""
        workspace = Workspace(self.root)
        return [
            f"believed and not whole: {artifact.step}/{artifact.key}/{name}"
            for artifact in workspace.artifacts()
            for name in workspace.damage(artifact)
        ]


def alone() -> None:
    """Called in a child: one core, where no processes are started for work that two would share."""
    os.sched_setaffinity(0, {os.getpid() % (os.cpu_count() or 1)})
    os.environ["REIDPIPE_JOBS"] = "1"

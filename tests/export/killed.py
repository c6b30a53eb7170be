"""`python -m tests.export.killed WORLD FOLDER FORMAT`: an export that is killed again and again, and resumed.

Each attempt is a process of its own that gets SIGKILL in the moment before it would rename its n-th file, for n = 1, 2,
... until one comes to its end. What can be loaded after each is printed as JSON: a number of episodes, and a digest of
each of them.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cfworld.data import EpisodeStore
from cfworld.export.config import ExportConfig
from cfworld.export.dataset import export_dataset


def settings(world: str, out: str, kind: str) -> ExportConfig:
    policies = {"sticky": 0.5, "random": 0.5}
    sizes: dict[str, Any] = {"episodes": 5, "rows": 2, "shard_episodes": 2, "max_steps": 1}
    return ExportConfig(world=world, out=out, format=kind, policies=policies, **sizes)


def loadable(folder: str) -> int:
    """How many episodes there are; none before the first file of them is finished."""
    begun = any((Path(folder) / name).exists() for name in ("data/metadata.json", "meta/info.json"))
    return len(EpisodeStore.open(folder)) if begun else 0


def digests(folder: str) -> list[str]:
    """Everything of every episode."""
    store = EpisodeStore.open(folder)
    found = []
    for index in range(len(store)):
        episode = store.episode(index)
        arrays = [episode.frames, episode.actions, episode.rewards, *episode.variables.values()]
        told = (episode.seed, episode.policy, episode.terminated, episode.truncated, dict(episode.options))
        found.append(hashlib.sha256(b"".join(a.tobytes() for a in arrays) + repr(told).encode()).hexdigest())
    return found


def kill_before_rename(number: int) -> None:
    """Let this process die before its `number`-th rename."""
    rename, count = Path.replace, 0

    def counted(self: Path, target: str | Path) -> Path:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.replace = counted  # pyright: ignore[reportAttributeAccessIssue]


def attempt(config: ExportConfig, number: int) -> int:
    """Export in a process of its own; gives the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        kill_before_rename(number)
        export_dataset(config, progress=False)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def main(world: str, out: str, kind: str) -> None:
    seen, found, number, ended = [], [], 0, -1
    while ended != 0 and number < 40:
        number += 1
        ended = attempt(settings(world, out, kind), number)
        if len(found) != loadable(out):
            found = digests(out)
        seen.append({"signal": ended, "episodes": found})
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])

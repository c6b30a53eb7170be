"""The console script `cfworld`: finds the command's module and hands over to it."""

import difflib
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

from cfworld.cli import common

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "agent-eval": "score agents in a world and in its simulator",
    "agent-train": "train an agent in a world or its simulator",
    "assemble": "put the teacher and the student of a world into one folder",
    "bench": "measure the speed of a world",
    "calibrate": "measure how odd real continuations look to a world",
    "collect": "record episodes of a simulator as a dataset",
    "evaluate": "judge a world against its twin",
    "export": "generate a dataset from a world: Minari or LeRobot",
    "import-wan": "make a world of texts out of Wan's checkpoints",
    "play": "act in a world yourself, by the keyboard",
    "rollout": "generate video from a world",
    "train": "train one stage of a world: tokenizer, teacher ...",
}
"""What each command does, by its name. `agent-train` lives in `cfworld/cli/agent_train.py`, and so on."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `cfworld <command> key=value ...`.

    Args:
        arguments: what follows `cfworld` on the command line; by default the process's own.

    Raises:
        SystemExit: with code 2 where the command line or the configuration is wrong.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name == "--version":
        print(f"cfworld {importlib.metadata.version('cfworld')}")
    elif name in COMMANDS:
        sys.argv = [f"cfworld {name}", *rest]
        importlib.import_module(f"cfworld.cli.{name.replace('-', '_')}").main()
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        common.fail(f"there is no command {name!r}; expected one of {', '.join(COMMANDS)}.{hint} Try: cfworld --help")


def _help() -> str:
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cfworld <command> [key=value ...]",
            "       cfworld <command> --help",
            "       cfworld --version",
            "",
            *lines,
        ]
    )

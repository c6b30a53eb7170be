"""The files that decide how policies act: scripts, and agents that were trained."""

import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from cfworld.data.blind import BLIND
from cfworld.data.policies import AGENT_CARD, split_policy

__all__ = ["agent_folder", "policy_digests"]


def agent_folder(name: str | Path) -> Path | None:
    """Where a trained agent lies; None if nobody of that name was trained.

    Args:
        name: A folder that `cfworld agent-train` wrote, with "agent:" before it or without, or `agent:<world>`, the
            agent that ships with a world of the zoo, which goes before a folder of the same name.
    """
    kind, argument = split_policy(str(name))
    if kind != "agent":
        return None
    shipped = Path(str(resources.files("cfworld.zoo"))) / argument / "agent"
    bare = argument.isidentifier() and argument != str(name)
    folder = shipped if bare and (shipped / AGENT_CARD).is_file() else Path(argument)
    return folder if (folder / AGENT_CARD).is_file() else None


def policy_digests(names: Iterable[str]) -> dict[str, str]:
    """What tells a policy from another one of the same name: a script may be changed, and an agent trained anew.

    Args:
        names: Of policies, as `cfworld.data.policies.split_policy` reads them.

    Returns:
        For every policy that is read from files its argument, as in `scripted:<argument>`, and the SHA-256 of the
        file: the script, the agent's `.zip`, or the card in the agent's folder, which names its weights' own.
    """
    found: dict[str, str] = {}
    for name in names:
        kind, argument = split_policy(name)
        folder = agent_folder(name)
        path = Path(argument) if folder is None else folder / AGENT_CARD
        if kind not in BLIND and argument and path.is_file():
            found[argument] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found

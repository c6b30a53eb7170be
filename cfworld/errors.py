"""Every error that cfworld raises on purpose. Messages say what was got, what was expected and what to do."""

from gymnasium import error as gym_error

__all__ = [
    "ActionError",
    "CfworldError",
    "CheckpointError",
    "CollectionError",
    "ConfigError",
    "DatasetError",
    "DonatedStateError",
    "EnvironmentClosedError",
    "MissingDependencyError",
    "OptionTypeError",
    "ResetNeededError",
    "ScenarioError",
    "ShapeError",
    "StartError",
    "StateError",
    "TrainingError",
    "UnknownWorldError",
]


class CfworldError(Exception):
    """The base of every cfworld error."""


class ActionError(CfworldError, ValueError):
    """An action has the wrong shape, dtype, range, or is not finite."""


class CheckpointError(CfworldError, ValueError):
    """A checkpoint is incomplete, damaged, or does not match its configuration."""


class CollectionError(CfworldError, RuntimeError):
    """A process that collects episodes died or failed."""


class ConfigError(CfworldError, ValueError):
    """A configuration contradicts itself or asks for what does not exist."""


class DatasetError(CfworldError, ValueError):
    """A dataset is missing, truncated, or holds something else than was expected."""


class DonatedStateError(CfworldError, RuntimeError):
    """A world state was used after its buffers had been given away."""


class EnvironmentClosedError(CfworldError, gym_error.ClosedEnvironmentError):
    """An environment was used after it had been closed."""


class MissingDependencyError(CfworldError, gym_error.DependencyNotInstalled):
    """An optional package is needed and not installed."""

    @classmethod
    def with_hint(cls, what: str, package: str, extra: str) -> "MissingDependencyError":
        """The error that says how to install a package.

        Args:
            what: who needs it, such as `fp8`.
            package: its name.
            extra: which of cfworld's extras brings it.
        """
        return cls(
            f"{what} needs {package}, which is not installed; run `pip install -e '.[{extra}]'` in the clone of cfworld"
        )


class OptionTypeError(ConfigError, TypeError):
    """An option is of the wrong type, where Gymnasium says TypeError."""


class ResetNeededError(CfworldError, gym_error.ResetNeeded):
    """An environment was stepped before its first reset, or after its episode had ended."""


class ScenarioError(ConfigError):
    """A scenario's file is wrong; the message begins with file, line and field."""


class ShapeError(CfworldError, ValueError):
    """A tensor has another shape than its consumer expects."""


class StartError(CfworldError, ValueError):
    """A start has the wrong shape or dtype, or its index does not exist."""


class StateError(CfworldError, ValueError):
    """A state or snapshot is none, belongs to another world, or lacks the rows that were asked for."""


class TrainingError(CfworldError, RuntimeError):
    """Training cannot go on: a loss or an agent is not finite, or another process trains in the same folder."""


class UnknownWorldError(CfworldError, ValueError):
    """A world was asked for that is neither in the zoo nor a checkpoint folder."""

"""`python -m benchmarks.ablation [key=value ...]`."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from inspect import cleandoc

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.ablation.config import AblationConfig, Steps
from benchmarks.ablation.execute import Commands, Execute, execute_all
from benchmarks.ablation.figures import collected, continuations
from benchmarks.ablation.plan import plan
from benchmarks.ablation.settings import check_overrides
from benchmarks.ablation.table import write_results
from benchmarks.ablation.variants import VARIANTS
from cfworld.errors import CfworldError
from cfworld.metrics.progress import Bar, progress_bar

__all__ = ["main", "read_config", "run_ablation"]


def read_config(arguments: Sequence[str]) -> AblationConfig:
    """The configuration that `key=value` arguments ask for, nested keys with a point.

    Raises:
        ConfigError: if a value makes no sense.
        OmegaConfBaseException: if a key is unknown or a value of another type.
    """
    given = OmegaConf.from_dotlist(list(arguments))
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(AblationConfig), given))
    assert isinstance(config, AblationConfig)
    return config


def run_ablation(config: AblationConfig, execute: Execute | None = None, bar: Bar = progress_bar) -> int:
    """Make what is still to do, and write the table of what is there.

    Args:
        config: what is compared.
        execute: makes one run; None for the command line.
        bar: shows how far it is.

    Returns:
        How many runs failed.
    """
    runs = plan(config)
    if config.check:
        for run in runs:
            print(f"# {run.title}\ncfworld {' '.join(run.command)}")
        return 0
    commands = Commands()
    outcome = execute_all(runs, execute or commands, bar, config.workers, commands.stop)
    write_results(config, collected(runs), continuations(runs), [run.title for run in outcome.failed])
    print(f"{config.results}/ablation.md: {len(outcome.made)} runs made, {len(outcome.skipped)} there before, ", end="")
    print(f"{len(outcome.failed)} failed")
    return len(outcome.failed)


def main() -> None:
    """Read the command line and run."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(_help())
        return
    try:
        config = read_config(sys.argv[1:])
        check_overrides(config)
        plan(config)  # what does not compose is told at once
    except (CfworldError, HydraException, OmegaConfBaseException, ValueError) as error:
        print(f"ablation: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        raise SystemExit(min(run_ablation(config), 1))
    except KeyboardInterrupt:
        print("\nablation: interrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


def _help() -> str:
    defaults = OmegaConf.to_container(OmegaConf.structured(AblationConfig))
    assert isinstance(defaults, dict)
    lines = ["usage: python -m benchmarks.ablation [key=value ...]", "", "variants:"]
    lines += [f"  {name:<26} {variant.title}" for name, variant in VARIANTS.items()]
    lines += ["", "defaults:", *(f"  {field.name}={defaults[field.name]}" for field in fields(AblationConfig))]
    return "\n".join([*lines, "", cleandoc(AblationConfig.__doc__ or ""), "", "steps:", cleandoc(Steps.__doc__ or "")])


if __name__ == "__main__":
    main()

"""Names of a choice and whole numbers; what else is given is refused by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ValidationError

from cfworld.agents import PlannerConfig
from cfworld.agents.config import AgentTrainConfig
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig
from cfworld.model import TransformerConfig
from cfworld.rollout import SamplerConfig
from cfworld.settings import Choice, check_counts
from cfworld.train.consistency import InitStageConfig
from cfworld.train.loop_config import LoopConfig
from cfworld.train.tokenizer import TokenizerStageConfig
from tests.toy import toy_config, toy_world


class Colour(Choice):
    """Colours."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Sizes:
    """Sizes."""

    width: object = 1
    height: object = 1


def test_a_choice_is_known_by_its_name() -> None:
    assert Colour("red") is Colour.RED
    assert Colour(Colour.BLUE) is Colour.BLUE


@pytest.mark.parametrize("written", ["red", "RED", Colour.RED])
def test_configuration_takes_a_choice_by_its_name_in_capitals_too(written: object) -> None:
    @dataclass
    class Painted:
        colour: Colour = Colour.BLUE

    settings = OmegaConf.merge(OmegaConf.structured(Painted), {"colour": written})
    assert settings.colour is Colour.RED
    with pytest.raises(ValidationError, match="green"):
        OmegaConf.merge(settings, {"colour": "green"})


@pytest.mark.parametrize("wrong", ["green", "RED", 3, None])
def test_a_choice_that_there_is_not_names_those_that_there_are(wrong: object) -> None:
    with pytest.raises(ConfigError, match=f"got {wrong!r} as Colour; expected one of red, blue"):
        Colour(wrong)


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, "1", None, float("nan")])
def test_counts_are_whole_and_large_enough(wrong: object) -> None:
    check_counts(Sizes(width=np.int64(1)), "width", "height")
    with pytest.raises(ConfigError, match=f"got height={wrong!r}; expected an integer of at least 1"):
        check_counts(Sizes(height=wrong), "width", "height")


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MemoryConfig, {"rule": "foo"}),
        (MemoryConfig, {"num_sink": 1.5}),
        (MemoryConfig, {"num_slow": -1}),
        (SamplerConfig, {"solver": "foo"}),
        (SamplerConfig, {"num_steps": 2.5}),
        (SamplerConfig, {"num_steps": "4"}),
        (SamplerConfig, {"shift": float("nan")}),
        (SamplerConfig, {"shift": float("inf")}),
        (SamplerConfig, {"guidance": float("nan")}),
        (toy_config, {"fps": 0}),
        (toy_config, {"fps": 7.5}),
        (toy_config, {"horizon_frames": 0}),
        (PlannerConfig, {"method": "foo"}),
        (PlannerConfig, {"gamma": float("nan")}),
        (AgentTrainConfig, {"world": "panorama", "env": "foo"}),
        (AgentTrainConfig, {"world": "panorama", "n_steps": 1.5}),
        (AgentTrainConfig, {"world": "panorama", "max_minutes": float("nan")}),
        (InitStageConfig, {"huber": float("nan")}),
        (TokenizerStageConfig, {"kl_weight": float("nan")}),
        (LoopConfig, {"steps": 1.5}),
        (LoopConfig, {"warmup": -1}),
        (TransformerConfig, {"depth": -1}),
        (TransformerConfig, {"num_heads": 0}),
        (toy_world().with_ends, {"ends": "foo"}),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(kind: Callable[..., Any], settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"got .*; expected"):
        kind(**settings)

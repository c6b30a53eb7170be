from dataclasses import asdict
from importlib import resources

import pytest
from omegaconf import OmegaConf

from cfworld.errors import ConfigError
from cfworld.memory import PRESETS, MemoryConfig, Positions, PromotionRule, chosen_memory
from cfworld.memory.presets import check_positions

FOLDER = resources.files("cfworld.configs.memory")
FILES = {path.name[:-5] for path in FOLDER.iterdir() if path.name.endswith(".yaml")}
OWN = MemoryConfig(num_sink=1, num_slow=3, num_fast=5, consolidate_every=6, threshold=0.7)


@pytest.mark.parametrize("name", sorted(PRESETS.keys() | FILES))
def test_a_preset_is_the_same_when_training_and_afterwards(name: str):
    given = OmegaConf.create((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    trained = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(OWN), given))
    assert trained == chosen_memory(OWN, name)


def test_a_preset_changes_what_it_names_and_leaves_the_rest():
    changed = chosen_memory(OWN, "longlive")
    given = asdict(OWN) | {"num_sink": 3, "num_slow": 0, "num_fast": 14, "positions": Positions.ABSOLUTE}
    assert asdict(changed) == given
    assert asdict(chosen_memory(OWN, "uniform")) == asdict(OWN) | {"rule": PromotionRule.UNIFORM}
    assert chosen_memory(OWN, None) is OWN
    assert chosen_memory(OWN, MemoryConfig()) == MemoryConfig()


def test_a_preset_that_does_not_fit_or_exist_is_refused():
    with pytest.raises(ConfigError, match="exceed latents_per_chunk"):
        chosen_memory(MemoryConfig(num_fast=12, latents_per_chunk=7), "fast_only")
    for name in ("slow_only", ""):
        with pytest.raises(ConfigError, match=f"memory='{name}'; expected .* infinity_rope"):
            chosen_memory(OWN, name)


def test_other_positions_than_those_of_the_training_are_warned_of(recwarn: pytest.WarningsRecorder):
    check_positions(OWN, chosen_memory(OWN, "fast_only"))
    assert not recwarn
    with pytest.warns(UserWarning, match="absolute positions for a world that was trained with bounded ones"):
        check_positions(OWN, chosen_memory(OWN, "longlive"))


def test_a_memory_is_described_in_one_line():
    assert OWN.summary == "sink 1, slow 3, fast 5, surprisal every 6 chunks, bounded positions"
    assert chosen_memory(OWN, "self_forcing").summary == "sink 0, slow 0, fast 17, bounded positions"

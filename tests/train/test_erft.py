"""Error recycling: what is banked comes back, in the context alone, and can be switched off."""

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.erft import ErftConfig, ErrorBank

CPU = torch.device("cpu")


def bank_with(value: float, sigma: float, **settings) -> ErrorBank:
    bank = ErrorBank(ErftConfig(start_step=5, noise=0.0, **settings), (1, 2, 2), CPU)
    bank.add(torch.full((8, 1, 2, 2), value), torch.full((8,), sigma), torch.Generator().manual_seed(0))
    return bank


def inject(bank: ErrorBank, step: int = 10) -> torch.Tensor:
    return bank.inject(torch.zeros(40, 30, 1, 2, 2), step, torch.Generator().manual_seed(1))


def test_nothing_is_injected_before_the_start_or_from_an_empty_bank():
    assert inject(bank_with(1.0, 0.5), step=4).abs().max() == 0
    assert inject(ErrorBank(ErftConfig(noise=0.0), (1, 2, 2), CPU), step=1000).abs().max() == 0


def test_the_share_of_injected_latents_is_what_was_asked_for():
    changed = inject(bank_with(1.0, 0.5, probability=0.5, clean_share=0.25))[..., 0, 0, 0] != 0
    clean_rows = ~changed.any(dim=1)
    assert abs(clean_rows.float().mean().item() - 0.25) < 0.15
    assert abs(changed[~clean_rows].float().mean().item() - 0.5) < 0.06


def test_banked_residuals_come_back_as_they_were():
    values = inject(bank_with(3.0, 0.5)).unique().tolist()
    assert values == [0.0, 3.0]


def test_residuals_of_predictions_that_are_all_noise_are_left_out():
    assert inject(bank_with(3.0, 0.95, max_sigma=0.8)).abs().max() == 0


def test_the_oldest_residual_makes_room():
    bank = bank_with(1.0, 0.5, capacity=4)
    bank.add(torch.full((4, 1, 2, 2), 2.0), torch.full((4,), 0.5), torch.Generator())
    assert inject(bank).unique().tolist() == [0.0, 2.0]


def test_a_bank_survives_saving():
    bank, other = bank_with(3.0, 0.5), ErrorBank(ErftConfig(start_step=5, noise=0.0), (1, 2, 2), CPU)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(inject(bank), inject(other))


def test_an_empty_bank_takes_no_space_and_survives_saving():
    bank, other = (ErrorBank(ErftConfig(noise=0.0), (1, 2, 2), CPU) for _ in range(2))
    other.load_state_dict(bank.state_dict())
    assert bank.errors.numel() == other.errors.numel() == 0
    assert inject(other, step=1000).abs().max() == 0
    assert len(bank_with(1.0, 0.5).errors) == 10


def test_a_bank_that_was_saved_before_its_first_residual_loads_whatever_its_size():
    """As those were saved that had their space from the beginning."""
    full = {"errors": torch.zeros(10, 256, 1, 2, 2, dtype=torch.bfloat16), "added": torch.zeros(10, dtype=torch.int64)}
    bank = ErrorBank(ErftConfig(noise=0.0), (1, 2, 2), CPU)
    bank.load_state_dict(full)
    assert inject(bank, step=1000).abs().max() == 0


def test_a_bank_from_which_nothing_is_injected_keeps_nothing():
    bank = bank_with(1.0, 0.5, probability=0.0)
    assert bank.errors.numel() == 0
    assert inject(bank).abs().max() == 0
    bank.load_state_dict(bank_with(1.0, 0.5).state_dict())
    assert bank.errors.numel() == 0
    assert inject(bank).abs().max() == 0


@pytest.mark.parametrize("sigma", [0.5, 0.95])
def test_white_noise_alone_is_injected_whether_or_not_the_bank_has_any_error_to_give(sigma: float):
    bank = ErrorBank(ErftConfig(start_step=5, probability=0.0, noise=0.1, max_sigma=0.8), (1, 2, 2), CPU)
    bank.add(torch.ones(8, 1, 2, 2), torch.full((8,), sigma), torch.Generator())
    assert 0 < inject(bank).abs().mean() < 0.1
    assert inject(bank, step=4).abs().max() == 0


def test_clips_that_stay_clean_get_no_white_noise_either():
    bank = ErrorBank(ErftConfig(start_step=0, probability=0.0, noise=0.1, clean_share=1.0), (1, 2, 2), CPU)
    assert inject(bank).abs().max() == 0


@pytest.mark.parametrize("change", [{"noise": -0.1}, {"start_step": -1}, {"probability": 1.5}, {"capacity": 0}])
def test_settings_out_of_range_are_refused(change: dict):
    (name,) = change
    with pytest.raises(ConfigError, match=rf"got erft\.{name}=.*; expected"):
        ErftConfig(**change)

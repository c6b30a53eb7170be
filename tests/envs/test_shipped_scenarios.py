"""What the shipped scenarios assert holds on the shipped weights, in every format that this processor is quick in."""

import pytest

from cfworld.envs import Scenario
from cfworld.envs.scenario import scenario_names
from cfworld.precision import fast_precision


@pytest.mark.slow
@pytest.mark.parametrize("precision", sorted({"fp32", fast_precision("cpu")}))
@pytest.mark.parametrize("name", scenario_names())
def test_every_assertion_holds(name: str, precision: str) -> None:
    checks = Scenario.load(name).run(precision=precision).checks
    assert checks
    assert not [f"{check.text} {check.branch}: got {check.got}" for check in checks if not check.holds]

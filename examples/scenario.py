"""One moment of the Doom world, three ways on from it: which lasts longest?

python examples/scenario.py
"""

from cfworld.envs import Scenario
from cfworld.export.scenario import write_scenario_strip

SCENARIO = """
world: doom_take_cover
seconds: 6
start: 17

timeline:
  - policy: sweep

branches:
  - name: go on
  - name: stand still
    fork: 1
    timeline:
      - action: stay
  - name: step aside
    fork: 1
    timeline:
      - action: stay
      - when: hazard > 0.02
        action: move left
        for: 0.6

assertions:
  - alive: 1
  - check: seconds of step aside >= seconds of stand still
"""

result = Scenario.parse(SCENARIO).run()
for branch in result.branches:
    print(f"{branch.name}: {branch.seconds:.1f} s, return {branch.reward.sum():.1f}")
for check in result.checks:
    print("held  " if check.holds else "FAILED", check.text, check.branch, f"({check.got})")
write_scenario_strip("scenario.png", result)

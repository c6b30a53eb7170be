"""One moment of the Doom world, three ways on from it: which is the least dangerous?

python examples/scenario.py
"""

from cfworld.envs import Scenario
from cfworld.export.scenario import write_scenario_strip

SCENARIO = """
world: doom_take_cover
seed: 7
seconds: 6
ends: never

timeline:
  - policy: sticky

branches:
  - name: go on
  - name: stand still
    fork: 2
    timeline:
      - action: stay
  - name: step aside
    fork: 2
    timeline:
      - action: stay
      - when: hazard > 0.01
        action: move left
        for: 0.6

assertions:
  - check: sum hazard of step aside < sum hazard of stand still
"""

result = Scenario.parse(SCENARIO).run()
for branch in result.branches:
    print(f"{branch.name}: hazard {branch.hazard.sum():.2f} over {branch.seconds:.1f} s")
for check in result.checks:
    print("held  " if check.holds else "FAILED", check.text, check.branch, f"({check.got})")
write_scenario_strip("scenario.png", result)

"""What a scenario is made of, from its file to its result, and the scenarios that ship.

`source` knows the places in a file, `conditions` and `schema` what may stand there, and `reader` reads it; `acts`,
`player` and `run` play it; `result` judges it. `cfworld.envs.scenario.Scenario` is the way in.
"""

"""The paper's ablations, trained and evaluated on one world with the same seeds and budget.

python -m benchmarks.ablation [key=value ...]
"""

"""What each package offers. A change here is a change for those who use cfworld: put it into the changelog."""

import importlib

import pytest

SURFACE = {
    "cfworld": "Start StepOutput World WorldConfig WorldState __version__",
    "cfworld.agents": (
        "Agent AgentTrainConfig Planner PlannerConfig SB3VecEnv Scores dream_scores make_player train_agent twin_scores"
    ),
    "cfworld.data": ("Blocks Clip ClipSampler CollectConfig Episode EpisodeStore StoreWriter collect to_blocks"),
    "cfworld.diffusion": (
        "Solver counter_noise counter_uniform denoised euler expand_sigma few_step guided heun integrate interpolate "
        "levels_of_passes noise_from renoise sample_sigma shift sigmas stratified_sigma velocity"
    ),
    "cfworld.envs": (
        "BranchResult DoomRoomsTwin DoomTakeCoverTwin EnvState LatentObservation PanoramaTwin Scenario ScenarioResult "
        "Ticks Twin VectorLatentObservation WorldEnv WorldVectorEnv built_in_policies"
    ),
    "cfworld.errors": (
        "ActionError CfworldError CheckpointError CollectionError ConfigError DatasetError DonatedStateError "
        "EnvironmentClosedError MissingDependencyError OptionTypeError ResetNeededError ScenarioError "
        "ShapeError StartError StateError TrainingError UnknownWorldError"
    ),
    "cfworld.export": "ExportConfig VideoWriter export_dataset film_strip open_video write_film_strip write_video",
    "cfworld.memory": (
        "MemoryConfig MemoryState NewLatents PRESETS Positions PromotionRule absolute_positions bounded_positions "
        "chosen_memory commit consolidate empty_memory is_check key_similarity memory_positions push_index token_mean"
    ),
    "cfworld.model": (
        "ActionConfig AttentionBackend ContextFunction Generator Heads PromptKeys TimeEmbedding Transformer "
        "TransformerConfig TransformerOutput apply_rope rope_table"
    ),
    "cfworld.prompts": (
        "ActionConfig ActionKind ActionPart ContinuousPromptConfig ContinuousPrompts DictPrompts DiscretePromptConfig "
        "DiscretePrompts HashedWords MultiDiscretePromptConfig MultiDiscretePrompts PromptEncoder TextConfig "
        "TextEncoder TextPromptConfig TextPrompts"
    ),
    "cfworld.prefix": "mean_keys prime take_in",
    "cfworld.rollout": (
        "CleanPass Conditions Context SamplerConfig Solver blank_memory clean_pass conditions context_from_memory "
        "context_of_slots denoise prompt_tokens read"
    ),
    "cfworld.tokenizer": "BlockVAE BlockVAEConfig TinyVAE TinyVAEConfig Tokenizer WanVAE WanVAEConfig",
    "cfworld.world": (
        "EncodedStarts Ends Novelty Opening Start StepOutput World WorldConfig WorldState config_from_dict "
        "config_to_dict find_world zoo_names"
    ),
}


@pytest.mark.parametrize("package", SURFACE)
def test_a_package_offers_exactly_these_names(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == SURFACE[package].split()
    assert all(hasattr(module, name) for name in module.__all__)

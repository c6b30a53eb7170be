"""`cfworld import-wan`: makes a world out of Wan's checkpoints."""

from dataclasses import dataclass, fields
from typing import Any

from cfworld.cli import common
from cfworld.world.wan import WanSettings, import_wan

__all__ = ["ImportWanConfig", "import_world", "main"]

SUMMARY = (
    "Make a world of texts out of Wan 2.1, or of what was trained from it (Self-Forcing, LongLive, Causal Forcing, "
    "Context Forcing): its transformer, its VAE and its encoder of texts are read, checked and written to one folder, "
    'which cfworld.World.from_pretrained and gym.make("cfworld/World-v0", world=FOLDER) take.'
)
EXAMPLE = "transformer=model.pt vae=Wan2.1-T2V-1.3B-Diffusers text_encoder=Wan2.1-T2V-1.3B-Diffusers out=worlds/wan"


@dataclass(kw_only=True, slots=True)
class ImportWanConfig(WanSettings):
    """What `cfworld import-wan` takes.

    Attributes:
        transformer: A file or folder of the original Wan, a folder of diffusers' WanTransformer3DModel or a pipeline
            that has one, or a checkpoint of Self-Forcing, LongLive, Causal Forcing or Context Forcing.
        vae: A folder of diffusers' AutoencoderKLWan or a pipeline that has one, Wan2.1_VAE.pth, or a tiny VAE in
            TAEHV's layout, taew2_1.pth.
        text_encoder: A folder of transformers' UMT5 with its tokenizer, or a pipeline that has both; null leaves the
            world without one.
        device: Where texts are encoded, if actions have names: cpu, cuda, cuda:1 ...
        out: The world's folder; null for outputs/import-wan/<time>.
    """

    transformer: str
    vae: str
    text_encoder: str | None = None
    device: str = "cpu"
    out: str | None = None


def import_world(config: ImportWanConfig) -> dict[str, Any]:
    """Import, write the world, and return its figures."""
    settings = WanSettings(**{entry.name: getattr(config, entry.name) for entry in fields(WanSettings)})
    world = import_wan(config.transformer, config.vae, config.text_encoder, settings, config.device, "bf16")
    folder = common.output_folder("import-wan", config.out)
    world.save_pretrained(folder)  # before the rest: a folder that holds another world is left as it is
    common.write_config(folder, config)
    figures: dict[str, Any] = {
        "world": world.fingerprint,
        "parameters": sum(parameter.numel() for parameter in world.generator.transformer.parameters()),
        "resolution": list(world.config.resolution),
        "frames_per_step": world.config.frames_per_step,
        "memory_slots": world.config.memory.num_slots,
    }
    common.write_figures(folder, "import-wan", figures)
    print(f"{figures['world']}: {figures['parameters']:,} parameters in {folder}")
    return figures


def main() -> None:
    """Run `cfworld import-wan`."""
    common.run_command("import-wan", ImportWanConfig, import_world, SUMMARY, example=EXAMPLE)

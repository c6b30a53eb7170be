"""The adversarial term of the tokenizer: a critic of patches that asks for the grain which absolute errors smooth away.

VQGAN (Esser et al., arXiv 2012.09841, Eq. 4-6) with the hinge loss. Shapes: B blocks, P = 3 F frames and colours.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from cfworld.train.team import ALONE, Team

__all__ = ["AdversarialPair", "PatchCritic", "balance", "hinge_loss", "patch_weights"]

LARGEST_WEIGHT = 100.0


class PatchCritic(nn.Module):
    """Logits of "this is real" for overlapping patches of a block of frames, about 20 pixels wide.

    It has no normalisation: that would take away the contrast by which a blurred block is told from a sharp one.

    Args:
        channels: Frames and colours P of a block.
        width: Feature channels at half the resolution.
    """

    def __init__(self, channels: int, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, pixels: Float[Tensor, "B P H W"]) -> Float[Tensor, "B 1 p q"]:
        """Judge every patch; above 0 means real."""
        return self.layers(pixels.contiguous(memory_format=torch.channels_last))


class AdversarialPair(nn.Module):
    """A tokenizer and its critic, trained by one optimiser: each one's loss moves that one alone."""

    def __init__(self, vae: nn.Module, critic: PatchCritic) -> None:
        super().__init__()
        self.vae = vae
        self.critic = critic

    def fooled(self, pixels: Float[Tensor, "B P H W"], weights: Float[Tensor, "B P H W"], team: Team = ALONE) -> Tensor:
        """The tokenizer's adversarial loss, -E[D(x_hat)]; its gradient does not reach the critic's weights."""
        frozen = {name: value.detach() for name, value in self.critic.named_parameters()}
        logits = functional_call(self.critic, frozen, (pixels,)).float()
        return -(patch_weights(weights, logits, team) * logits).mean()

    def criticise(
        self,
        real: Float[Tensor, "B P H W"],
        made: Float[Tensor, "B P H W"],
        weights: Float[Tensor, "B P H W"],
        team: Team = ALONE,
    ) -> Tensor:
        """The critic's hinge loss; its gradient does not reach the tokenizer."""
        judged = self.critic(real), self.critic(made.detach())
        return hinge_loss(*judged, patch_weights(weights, judged[0], team))


def hinge_loss(
    real: Float[Tensor, "*logits"], made: Float[Tensor, "*logits"], weights: Float[Tensor, "*logits"]
) -> Tensor:
    """E[w max(0, 1 - D(x))] / 2 + E[w max(0, 1 + D(x_hat))] / 2; zero for a sure and right critic."""
    return 0.5 * (weights * (functional.relu(1 - real.float()) + functional.relu(1 + made.float()))).mean()


def patch_weights(
    weights: Float[Tensor, "B P H W"], logits: Float[Tensor, "B 1 p q"], team: Team = ALONE
) -> Float[Tensor, "B 1 p q"]:
    """How much each patch counts, on average 1: by what its pixels weigh over the least weight, 1.

    Most patches of a game are plain floor or sky, where a critic has nothing to say; they count next to nothing.
    """
    rows, columns = logits.shape[-2:]
    pooled = functional.adaptive_avg_pool2d(weights.mean(dim=1, keepdim=True) - 1.0, (rows, columns)) + 1e-3
    return pooled / team.mean(pooled.mean())


def balance(reconstruction: Tensor, adversarial: Tensor, weight: nn.Parameter, team: Team = ALONE) -> Tensor:
    """How much the adversarial loss counts: the ratio of both losses' gradients at the decoder's last weight.

    lambda = |grad L_rec| / (|grad L_adv| + 1e-6), at most 100, without gradient (VQGAN, Eq. 7).
    """
    (left,) = torch.autograd.grad(reconstruction, weight, retain_graph=True)
    (right,) = torch.autograd.grad(adversarial, weight, retain_graph=True)
    left, right = team.mean(left), team.mean(right)
    return (left.norm() / (right.norm() + 1e-6)).clamp(max=LARGEST_WEIGHT).detach()

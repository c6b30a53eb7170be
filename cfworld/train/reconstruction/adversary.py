"""The adversarial term of the tokenizer: a critic that asks for the grain which absolute errors smooth away.

VQGAN (Esser et al., arXiv 2012.09841, Eq. 4-7) with the hinge loss, and with pix2pixHD's matching of the critic's
features (Wang et al., arXiv 1711.11585, Eq. 4) in the place of a perceptual loss. Shapes: B blocks, P = 3 F frames and
colours, C latent channels, p q places of a map of logits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from cfworld.train.processes.team import ALONE, Team
from cfworld.train.reconstruction.detail_critic import DetailCritic
from cfworld.train.reconstruction.frame_errors import detail, local_mean

__all__ = ["AdversarialPair", "Criticism", "balance", "hinge_loss", "patch_weights"]

LARGEST_WEIGHT = 100.0
"""Bound of `balance`."""
BALANCE_EVERY, BALANCE_RATE = 20, 0.2
"""Steps between two measurements of the balance, and how far it moves towards a new one."""
PLAIN = 0.01
"""Root mean square detail below which patches hardly count."""


class Criticism(NamedTuple):
    """What the critic has to learn from a batch, and what the tokenizer needs of it.

    Attributes:
        loss: The critic's hinge loss; its gradient does not reach the tokenizer.
        weights: How much each patch counts, like the logits.
        features: The critic's features of the real blocks, without gradient.
    """

    loss: Tensor
    weights: list[Tensor]
    features: list[Tensor]


class AdversarialPair(nn.Module):
    """A tokenizer and its critic, trained together: each one's loss moves that one alone.

    It remembers how much the tokenizer's two adversarial losses count, since to measure that is dear.
    """

    balances: Tensor

    def __init__(self, vae: nn.Module, critic: DetailCritic) -> None:
        super().__init__()
        self.vae = vae
        self.critic = critic
        self.register_buffer("balances", torch.zeros(2))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the tokenizer; the pair is never called as a whole."""
        self.vae.compile(*args, **kwargs)

    def criticise(
        self,
        real: Float[Tensor, "B P H W"],
        made: Float[Tensor, "B P H W"],
        latents: Float[Tensor, "B C h w"],
        team: Team = ALONE,
    ) -> Criticism:
        """Tell real blocks from made ones."""
        judged_real, judged_made = self.critic(real, latents), self.critic(made.detach(), latents)
        weights = [patch_weights(real, made, logits.shape[-2:], team) for logits in judged_real.logits]
        terms = [hinge_loss(*found) for found in zip(judged_real.logits, judged_made.logits, weights, strict=True)]
        features = [found.detach() for found in judged_real.features]
        return Criticism(torch.stack(terms).mean(), weights, features)

    def fooled(
        self,
        made: Float[Tensor, "B P H W"],
        latents: Float[Tensor, "B C h w"],
        criticism: Criticism,
        team: Team = ALONE,
        *,
        match: bool = True,
    ) -> tuple[Tensor, ...]:
        """The tokenizer's losses, whose gradients do not reach the critic's weights.

        Args:
            made: Reconstructed blocks.
            latents: What they were made of.
            criticism: What the critic found.
            team: The processes that train together.
            match: Whether the critic's features are to be matched.

        Returns:
            The adversarial loss, -E[w D(x_hat)], a mean over the scales; and, if they are to be matched, the distance
            of the critic's features of made and real blocks, each layer's as a share of the real features' mean
            absolute value.
        """
        frozen = {name: value.detach() for name, value in self.critic.named_parameters()}
        judged = functional_call(self.critic, frozen, (made, latents))
        pairs = zip(judged.logits, criticism.weights, strict=True)
        adversarial = -torch.stack([(weights * logits).mean() for logits, weights in pairs]).mean()
        return (adversarial, _feature_distance(judged.features, criticism.features, team)) if match else (adversarial,)

    def balanced(
        self,
        reconstruction: Tensor,
        terms: tuple[Tensor, ...],
        weight: nn.Parameter,
        steps_since_start: int,
        team: Team = ALONE,
    ) -> Tensor:
        """The losses of `fooled` [1 or 2], in units that make their gradients as large as the reconstruction's.

        The units are measured (`balance`) at the first step and at every twentieth after it, and smoothed.

        Args:
            reconstruction: The loss that is the measure.
            terms: What `fooled` returned.
            weight: Where gradients are compared.
            steps_since_start: Steps since these losses began.
            team: The processes that train together.
        """
        if steps_since_start % BALANCE_EVERY == 0:
            found = torch.stack([balance(reconstruction, term, weight, team) for term in terms])
            self.balances[: len(terms)].lerp_(found, BALANCE_RATE if steps_since_start else 1.0)
        return self.balances[: len(terms)] * torch.stack(terms)


def hinge_loss(
    real: Float[Tensor, "*logits"], made: Float[Tensor, "*logits"], weights: Float[Tensor, "*logits"]
) -> Tensor:
    """E[w max(0, 1 - D(x))] / 2 + E[w max(0, 1 + D(x_hat))] / 2; zero for a sure and right critic."""
    return 0.5 * (weights * (functional.relu(1 - real.float()) + functional.relu(1 + made.float()))).mean()


@torch.no_grad()
def patch_weights(
    real: Float[Tensor, "B P H W"], made: Float[Tensor, "B P H W"], places: Sequence[int], team: Team = ALONE
) -> Float[Tensor, "B 1 p q"]:
    """How much each patch counts, on average 1: by the detail of the real or of the made block.

    Most patches of a game are plain floor or sky, where a critic has nothing to say; they count little.
    """
    energy = (detail(real.float()).square() + detail(made.float()).square()).mean(dim=1, keepdim=True)
    strength = functional.adaptive_avg_pool2d(local_mean(energy).sqrt(), (places[0], places[1])) + PLAIN
    return strength / team.mean(strength.mean())


def balance(reconstruction: Tensor, adversarial: Tensor, weight: nn.Parameter, team: Team = ALONE) -> Tensor:
    """How much the adversarial loss counts: the ratio of both losses' gradients at the decoder's last weight.

    lambda = |grad L_rec| / (|grad L_adv| + 1e-6), at most 100, without gradient (VQGAN, Eq. 7).
    """
    (left,) = torch.autograd.grad(reconstruction, weight, retain_graph=True)
    (right,) = torch.autograd.grad(adversarial, weight, retain_graph=True)
    left, right = team.mean(left), team.mean(right)
    return (left.norm() / (right.norm() + 1e-6)).clamp(max=LARGEST_WEIGHT).detach()


def _feature_distance(made: Sequence[Tensor], real: Sequence[Tensor], team: Team) -> Tensor:
    """Mean over the layers of |made - real| / |real|, each a mean over the elements."""
    shares = [
        (m - r).abs().float().mean() / (team.mean(r.abs().float().mean()) + 1e-3)
        for m, r in zip(made, real, strict=True)
    ]
    return torch.stack(shares).mean()

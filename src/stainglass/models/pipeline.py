"""The pipeline: autoencoder, GeneCondNet and denoiser in one folder that diffusers' users know."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from jaxtyping import Float, UInt8
from torch import Tensor

from stainglass.errors import StainglassError
from stainglass.files import atomic_path
from stainglass.models.autoencoder import decode_latents, encode_pixels, pixels_to_input
from stainglass.models.builtin import resolve_builtin
from stainglass.models.denoiser import hear, is_stable_diffusion, predict_velocity
from stainglass.models.facts import Facts, read_facts, write_facts
from stainglass.models.flow import Flow, flow_of
from stainglass.models.genecondnet import ConditionTensors, Embedded, GeneCondNet
from stainglass.models.model_card import write_model_card
from stainglass.models.sampler import SamplerSettings
from stainglass.models.selector import Selector, block_statistics
from stainglass.models.solver import integrate

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")


class TissuePipeline(DiffusionPipeline):
    """Spots → tissue.

    ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` are diffusers'; the gene axis, its
    statistics and the mpp travel inside. The module path of this class is part of the format.

    Parameters
    ----------
    autoencoder
        Ours or any diffusers autoencoder of 8 × down.
    condnet
        `GeneCondNet`.
    denoiser
        A diffusers UNet or `TissueDiT`.
    scheduler
        Tells the denoiser's flow (`stainglass.models.flow.flow_of`); the solver is chosen a call.
    selector
        Chooses between candidates; fitted to this denoiser.
    """

    _optional_components = ["selector"]  # noqa: RUF012 (diffusers' own name and kind)

    def __init__(
        self,
        autoencoder: Any,
        condnet: GeneCondNet,
        denoiser: Any,
        scheduler: Any,
        selector: Selector | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder,
            condnet=condnet,
            denoiser=denoiser,
            scheduler=scheduler,
            selector=selector,
        )
        self.facts: Facts | None = None

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write the folder whole or not at all: safetensors, ``stainglass.json``, a model card.

        Weights are written in the precision they have.
        """
        facts = self._facts()
        kwargs["safe_serialization"] = True
        with atomic_path(Path(save_directory)) as temporary:
            super().save_pretrained(temporary, **kwargs)
            write_facts(temporary, facts)
            write_model_card(temporary, facts, self.parameters_by_part())

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload generator",
    ) -> str:
        """Push to a hub what `save_pretrained` writes, our model card included (diffusers' own would replace it).

        Returns
        -------
        Address of the commit.
        """
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "generator"
            self.save_pretrained(saved)
            name = huggingface_hub.create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
            return str(
                huggingface_hub.upload_folder(
                    repo_id=name, folder_path=saved, token=token, commit_message=commit_message
                )
            )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> TissuePipeline:
        """Load from a folder, a hub id (pin it with ``revision=``) or ``builtin:NAME``; safetensors only.

        Raises
        ------
        StainglassError
            When it is no generator, or one of another format version.
        """
        pretrained_model_name_or_path = resolve_builtin(pretrained_model_name_or_path)
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            if folder.is_absolute() or str(pretrained_model_name_or_path).count("/") != 1:
                raise StainglassError(
                    folder, "no generator here", "Give a folder that 'stainglass train' wrote, or a hub id"
                )
            # diffusers' own download looks for the code of our modules in the repository; they are installed here.
            hub = {key: kwargs.pop(key) for key in HUB_OPTIONS if key in kwargs}
            folder = Path(huggingface_hub.snapshot_download(str(pretrained_model_name_or_path), **hub))
        facts = read_facts(folder)
        kwargs.setdefault("low_cpu_mem_usage", False)
        logging.disable_progress_bar()  # diffusers' bar for three small files
        pipeline: TissuePipeline = super().from_pretrained(folder, use_safetensors=True, **kwargs)
        pipeline.facts = facts
        for part in (pipeline.autoencoder, pipeline.condnet, pipeline.denoiser, pipeline.selector):
            if part is not None:
                part.eval().requires_grad_(False)
        return pipeline

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""
        return {
            name: sum(p.numel() for p in getattr(self, name).parameters())
            for name in ("autoencoder", "condnet", "denoiser", "selector")
            if getattr(self, name) is not None
        }

    def _facts(self) -> Facts:
        if self.facts is None:
            raise ValueError("set pipeline.facts first: a generator without gene axis and mpp is of no use")
        return self.facts

    def _stats(self) -> tuple[Tensor, Tensor]:
        facts = self._facts()
        mean = torch.tensor(facts.latent_mean, device=self.device)[:, None, None]
        return mean, torch.tensor(facts.latent_std, device=self.device)[:, None, None]

    @cached_property
    def flow(self) -> Flow:
        """What the denoiser is given and what its answer means."""
        return flow_of(self.scheduler)

    @property
    def hears_tokens_alone(self) -> bool:
        """Whether the denoiser is of Stable Diffusion's family."""
        return is_stable_diffusion(self.denoiser)

    @torch.no_grad()
    def embed(self, conditions: ConditionTensors) -> Embedded:
        """Tokens, mask and pooled vector of a batch of conditions."""
        embedded: Embedded = self.condnet(conditions)
        return embedded

    @torch.no_grad()
    def prompt_embeds(self, conditions: ConditionTensors) -> Float[Tensor, "b t w"]:
        """Tokens to hand to diffusers' own Stable Diffusion pipeline; of ``conditions.null()`` the negative ones."""
        return hear(self.denoiser, self.embed(conditions), self.condnet, self._facts().pooled).tokens

    def velocity(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, b], told: Embedded
    ) -> Float[Tensor, "b c h w"]:
        """The velocity of noisy latents under one condition, without guidance."""
        heard = hear(self.denoiser, told, self.condnet, self._facts().pooled)
        return predict_velocity(self.denoiser, x, t, heard, self.flow)

    @torch.no_grad()
    def __call__(
        self,
        conditions: ConditionTensors,
        noise: Float[Tensor, "b c h w"] | Float[Tensor, "k b c h w"],
        settings: SamplerSettings | None = None,
        wanted: ConditionTensors | None = None,
    ) -> UInt8[Tensor, "b h*8 w*8 3"]:
        """Paint a batch of windows.

        Parameters
        ----------
        conditions
            Of the windows; an absent condition paints unconditionally.
        noise
            Standard normal latents; see `stainglass.synthesis.noise` for one that does not depend on the batch. Of several a
            window, the picture is kept that shows best what was told.
        settings
            Solver, steps, guidance; by default the generator's own.
        wanted
            What the best candidate shows; by default the conditions, which may be thinned.
        """
        latents = self.best_latents(conditions, noise, settings or self._facts().sampler, wanted)
        return decode_latents(self.autoencoder, latents)

    @torch.no_grad()
    def best_latents(
        self,
        conditions: ConditionTensors,
        noise: Float[Tensor, "b c h w"] | Float[Tensor, "k b c h w"],
        settings: SamplerSettings,
        wanted: ConditionTensors | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Of each window's candidates the latents that agree best with what is wanted; the first where nothing is.

        Raises
        ------
        StainglassError
            When there are several, and no selector.
        """
        noises = noise if noise.ndim == 5 else noise[None]
        self.require_selector(len(noises))
        best = self.sample_latents(conditions, noises[0], settings)
        if len(noises) == 1:
            return best
        wanted = conditions if wanted is None else wanted
        agreement = self.selector(self.look(best), wanted)
        for one in noises[1:]:
            next_ = self.sample_latents(conditions, one, settings)
            agrees = self.selector(self.look(next_), wanted)
            best = torch.where((agrees > agreement)[:, None, None, None], next_, best)
            agreement = torch.maximum(agreement, agrees)
        return best

    def require_selector(self, candidates: int) -> None:
        """Refuse to choose between candidates where nothing was fitted to.

        Raises
        ------
        StainglassError
            When there are several, and no selector.
        """
        if candidates > 1 and self.selector is None:
            raise StainglassError(
                self._facts().name, f"has no selector to choose the best of {candidates} candidates",
                "Fit one (stainglass select RUN --out NEW), or ask for one candidate",
            )  # fmt: skip

    @torch.no_grad()
    def look(self, latents: Float[Tensor, "b c h w"], level: float | None = None) -> Float[Tensor, "b d"]:
        """What the denoiser makes of latents by itself: `block_statistics` at one noise level, told nothing.

        Parameters
        ----------
        level
            By default the selector's.
        """
        if level is None:
            level = float(self.selector.config.level)
        mean, std = self._stats()
        rng = torch.Generator().manual_seed(
            0
        )  # one noise for all pictures, so that it makes no difference between them
        noise = torch.randn(latents.shape[1:], generator=rng).to(latents)
        x = (1 - level) * (latents - mean) / std + level * noise
        told = self._untold(len(x))
        levels = torch.full((len(x),), level, device=x.device)
        return block_statistics(self.denoiser, lambda: self.velocity(x, levels, told))

    def _untold(self, windows: int) -> Embedded:
        """The null condition."""
        facts = self._facts()
        one = torch.zeros(windows, 1, device=self.device)
        nothing = ConditionTensors(
            one[..., None].expand(-1, -1, len(facts.gene_ids)), one[..., None].expand(-1, -1, 2), one, one > 0
        )
        return self.embed(nothing)

    @torch.no_grad()
    def sample_latents(
        self,
        conditions: ConditionTensors,
        noise: Float[Tensor, "b c h w"],
        settings: SamplerSettings,
        watch: Callable[[Float[Tensor, "b c h w"], float], None] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Latents as the autoencoder decodes them; ``watch`` is shown those on the way whenever the solver asks the network,
        with their noise level.
        """
        mean, std = self._stats()
        told = self.embed(conditions)
        null = self.embed(conditions.null()) if settings.guidance != 1.0 else None

        def velocity(x: Tensor, t: float) -> Tensor:
            if watch is not None:
                watch(x * std + mean, t)
            level = torch.full((len(x),), t, device=x.device)
            v = self.velocity(x, level, told)
            if null is None or not settings.guided(t):
                return v
            v_null = self.velocity(x, level, null)
            return v_null + settings.guidance * (v - v_null)

        start = noise.to(self.device)
        return integrate(velocity, start, settings.solver, settings.steps, self.flow) * std + mean

    @torch.no_grad()
    def reconstruct(self, pixels: UInt8[Tensor, "b h w 3"]) -> UInt8[Tensor, "b h w 3"]:
        """Encode and decode: the ceiling of anything painted in this latent space."""
        return decode_latents(
            self.autoencoder, encode_pixels(self.autoencoder, pixels_to_input(pixels).to(self.device))
        )

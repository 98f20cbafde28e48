"""The training loop: seeded, resumable, with an average of the weights and a progress bar."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from tilestream_training import losses
from tilestream_training.augment import AugmentOptions
from tilestream_training.sampling import Source, pixel_counts
from tilestream_training.schedule import WarmupStableDecay, WarmupStableDecayInTime
from tilestream_training.soft_labels import SoftLabels
from tilestream_training.stills import Stills, hold_stills
from tilestream_training.views import draw_views

_SHOW_EVERY = 10  # steps between two looks at the loss, which wait for the device


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Everything that decides the result of a run, next to the data."""

    steps: int = 3000
    minutes: float | None = None  # the run ends when it took so long, instead of after ``steps``
    batch: int = 8
    learning_rate: float = 4e-4
    encoder_learning_rate: float = 1e-4  # for parameters that start from ImageNet
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    decay_share: float = 0.35  # of all steps, or of the time
    ema_decay: float = 0.998
    auxiliary_weight: float = 0.4
    lovasz_weight: float = 0.5
    class_weight_power: float = 0.25  # 0: all classes weigh the same; 1: by inverse frequency
    distillation_weight: float = 0.0
    frozen: tuple[str, ...] = ()  # parameter name prefixes that stay as they are
    slow: tuple[str, ...] = ()  # prefixes with encoder_learning_rate
    seed: int = 0
    precision: str = "bf16"
    device: str = "cpu"
    augment: AugmentOptions = field(default_factory=AugmentOptions)


class Trainer:
    """Trains a segmentation network that has ``forward_with_auxiliary`` and ``mean`` / ``std``.

    ``run_directory`` receives ``last.pt`` (all state, written atomically), ``log.jsonl`` and
    ``options.json``. An existing ``last.pt`` is continued; what a step sees depends on the seed and the
    step only, so an interruption changes nothing. ``soft``: what teachers say of the sources' stills, in
    their order (``soft_labels``). ``clock``: seconds, of which a run with ``minutes`` counts those of its
    steps.
    """

    def __init__(
        self,
        model: nn.Module,
        sources: Sequence[Source],
        options: TrainOptions,
        run_directory: Path,
        num_classes: int,
        soft: Sequence[SoftLabels] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.options, self.sources, self.directory = options, sources, run_directory
        self._classes, self._soft, self._clock = num_classes, soft, clock
        self.device = torch.device(options.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: nn.Module = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.step = 0
        self.seconds = 0.0
        self.mean = torch.tensor(model.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(model.std, device=self.device).view(1, 3, 1, 1)
        self.weights = losses.class_weights(
            pixel_counts(sources, num_classes), options.class_weight_power
        ).to(self.device)
        self.optimizer = self._make_optimizer()
        self.schedule = WarmupStableDecay(
            options.steps, options.warmup_steps, round(options.steps * options.decay_share)
        )
        run_directory.mkdir(parents=True, exist_ok=True)
        if self.checkpoint_path.exists():
            self._load()
        (run_directory / "options.json").write_text(json.dumps(asdict(options), indent=2) + "\n")

    @property
    def checkpoint_path(self) -> Path:
        """Where the whole state of the run lies."""
        return self.directory / "last.pt"

    @property
    def done(self) -> bool:
        """Whether the run has come to its end."""
        options = self.options
        if options.minutes is not None:
            return self.seconds >= options.minutes * 60
        return self.step >= options.steps

    def run(self, save_every: int = 50, until: int | None = None) -> nn.Module:
        """Train to the end (or to step ``until``); returns the averaged model in evaluation mode."""
        self._set_training_mode()
        total = self.options.steps if self.options.minutes is None else None
        with tqdm(total=total, initial=self.step, unit="step", dynamic_ncols=True) as bar:
            before = self._clock()
            while not self.done and self.step != until:
                loss, factor = self._train_step()
                self.step += 1
                now = self._clock()
                self.seconds, before = self.seconds + now - before, now
                bar.update()
                kept = self.step % save_every == 0 or self.done or self.step == until
                if kept or self.step % _SHOW_EVERY == 0:
                    shown = float(loss)
                    bar.set_postfix(loss=f"{shown:.3f}", lr=f"{factor:.2f}")
                    record = {"step": self.step, "seconds": round(self.seconds, 1), "factor": factor}
                    if kept:
                        self._save()
                        self._log({**record, "loss": shown})
        return self.average

    @cached_property
    def stills(self) -> Stills:
        """What views are cut from, on the device."""
        return hold_stills(self.sources, self._classes, self.device, self._soft)

    def _train_step(self) -> tuple[Tensor, float]:
        """The loss, still on the device, and the factor on the learning rate."""
        factor = self._factor()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        loss = self._losses()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, 10.0, foreach=True)
        self.optimizer.step()
        self._update_average()
        return loss.detach(), factor

    def _factor(self) -> float:
        options = self.options
        if options.minutes is None:
            return self.schedule.factor(self.step)
        total = options.minutes * 60
        timed = WarmupStableDecayInTime(total, options.warmup_steps, total * options.decay_share)
        return timed.factor(self.step, self.seconds)

    def _losses(self) -> Tensor:
        """The loss of the present step."""
        options = self.options
        views = draw_views(self.stills, options.batch, options.augment, self.mean, options.seed, self.step)
        x = ((views.images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        with torch.autocast(self.device.type, dtype, enabled=options.precision == "bf16"):
            logits, auxiliary = self.model.forward_with_auxiliary(x)  # type: ignore[operator]
        loss = self._loss(logits, auxiliary, views.labels)
        if views.soft is not None and options.distillation_weight:
            size = (logits.shape[-2], logits.shape[-1])
            soft = nn.functional.interpolate(views.soft, size, mode="bilinear", align_corners=False)
            taught = losses.soft_divergence(logits.float(), soft)
            loss = loss + options.distillation_weight * taught
        return loss

    def _loss(self, logits: Tensor, auxiliary: Tensor, labels: Tensor) -> Tensor:
        """Losses at twice the logits' resolution: a quarter (or less) of the full-size cost, no bias."""
        options = self.options
        fine = nn.functional.interpolate(
            logits.float(), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        size = (fine.shape[-2], fine.shape[-1])
        # Every position in a cell of the reduced grid comes up: the labels are centred on average.
        rows, columns = labels.shape[-2] // size[0], labels.shape[-1] // size[1]
        offset = (self.step % rows, self.step // rows % columns)
        fine_labels = losses.sampled_labels(labels, size, offset)
        loss = losses.cross_entropy(fine, fine_labels, self.weights)
        coarse = auxiliary.float()
        coarse_labels = losses.sampled_labels(labels, (coarse.shape[-2], coarse.shape[-1]), (4, 4))
        loss = loss + options.auxiliary_weight * losses.cross_entropy(coarse, coarse_labels, self.weights)
        if options.lovasz_weight:
            step = 2 if fine.shape[-1] >= labels.shape[-1] // 2 else 1
            thin, thin_labels = fine[..., ::step, ::step], fine_labels[..., ::step, ::step]
            loss = loss + options.lovasz_weight * losses.lovasz_softmax(thin, thin_labels)
        return loss

    def _make_optimizer(self) -> torch.optim.Optimizer:
        options = self.options
        names = [name for name, _ in self.model.named_parameters()]
        for prefix in options.frozen:
            if not any(name.startswith(prefix) for name in names):
                known = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names}))
                raise ValueError(f"nothing to freeze: no parameter begins with {prefix!r}; there are {known}")
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if name.startswith(options.frozen) if options.frozen else False:
                parameter.requires_grad_(False)
                continue
            slow = bool(options.slow) and name.startswith(options.slow)
            rate = options.encoder_learning_rate if slow else options.learning_rate
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay}
                for (rate, decay), p in groups.items()
            ],
            fused=self.device.type == "cuda",
        )

    def _set_training_mode(self) -> None:
        self.model.train()
        for name, module in self.model.named_modules():
            if self.options.frozen and name.startswith(self.options.frozen):
                module.eval()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.options.ema_decay, (1 + self.step) / (10 + self.step))
        kept, latest = (list(net.state_dict().values()) for net in (self.average, self.model))
        moving = [index for index, value in enumerate(kept) if value.is_floating_point()]
        average = get_ema_multi_avg_fn(decay)
        average([kept[i] for i in moving], [latest[i] for i in moving], self.step)
        for index in set(range(len(kept))) - set(moving):
            kept[index].copy_(latest[index])

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        part = self.checkpoint_path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint_path)

    def _load(self) -> None:
        state = torch.load(self.checkpoint_path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        wanted = [(group["base_lr"], group["weight_decay"]) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, (rate, decay) in zip(self.optimizer.param_groups, wanted, strict=True):
            group["base_lr"], group["weight_decay"] = rate, decay
        self.step, self.seconds = state["step"], state["seconds"]

    def _log(self, record: dict[str, float]) -> None:
        with (self.directory / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

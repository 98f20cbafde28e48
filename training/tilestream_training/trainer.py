"""The training loop: seeded, resumable, with an average of the weights and a progress bar."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tilestream_training import losses
from tilestream_training.augment import AugmentOptions
from tilestream_training.sampling import Source, draw_batch, pixel_counts
from tilestream_training.schedule import WarmupStableDecay


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Everything that decides the result of a run, next to the data."""

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 4e-4
    encoder_learning_rate: float = 1e-4  # for parameters that start from ImageNet
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    decay_share: float = 0.35  # of all steps
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
    step only, so an interruption changes nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        sources: Sequence[Source],
        options: TrainOptions,
        run_directory: Path,
        num_classes: int,
        teacher: nn.Module | None = None,
    ) -> None:
        self.options, self.sources, self.directory = options, sources, run_directory
        self.device = torch.device(options.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: nn.Module = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.teacher = teacher.to(self.device).eval().requires_grad_(False) if teacher is not None else None
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

    def run(self, save_every: int = 50, until: int | None = None) -> nn.Module:
        """Train to the last step (or to ``until``); returns the averaged model in evaluation mode."""
        last = min(self.options.steps, until if until is not None else self.options.steps)
        self._set_training_mode()
        with tqdm(total=self.options.steps, initial=self.step, unit="step", dynamic_ncols=True) as bar:
            while self.step < last:
                started = time.perf_counter()
                record = self._train_step()
                self.seconds += time.perf_counter() - started
                self.step += 1
                bar.update()
                bar.set_postfix(loss=f"{record['loss']:.3f}", lr=f"{record['factor']:.2f}")
                if self.step % save_every == 0 or self.step == last:
                    self._save()
                    self._log({"step": self.step, "seconds": round(self.seconds, 1), **record})
        return self.average

    def _train_step(self) -> dict[str, float]:
        factor = self.schedule.factor(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        loss = self._losses()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 10.0)
        self.optimizer.step()
        self._update_average()
        return {"loss": float(loss.detach()), "factor": factor}

    def _losses(self) -> Tensor:
        """The loss of the present step."""
        options = self.options
        images, labels = draw_batch(self.sources, options.batch, options.augment, options.seed, self.step)
        labels = labels.to(self.device)
        x = images.to(self.device).to(memory_format=torch.channels_last)
        x = (x.float() / 255.0 - self.mean) / self.std
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        with torch.autocast(self.device.type, dtype, enabled=options.precision == "bf16"):
            logits, auxiliary = self.model.forward_with_auxiliary(x)  # type: ignore[operator]
            with torch.no_grad():
                target = None
                if self.teacher is not None:
                    target = self.teacher.forward_with_auxiliary(x)[0]  # type: ignore[operator]
        return self._loss(logits, auxiliary, target, labels)

    def _loss(self, logits: Tensor, auxiliary: Tensor, target: Tensor | None, labels: Tensor) -> Tensor:
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
        if target is not None and options.distillation_weight:
            soft = nn.functional.interpolate(target.float(), size=size, mode="bilinear", align_corners=False)
            loss = loss + options.distillation_weight * losses.distillation(fine, soft)
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
            ]
        )

    def _set_training_mode(self) -> None:
        self.model.train()
        for name, module in self.model.named_modules():
            if self.options.frozen and name.startswith(self.options.frozen):
                module.eval()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.options.ema_decay, (1 + self.step) / (10 + self.step))
        for mine, theirs in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mine.lerp_(theirs, 1.0 - decay)
        for kept, latest in zip(self.average.buffers(), self.model.buffers(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(latest, 1.0 - decay)
            else:
                kept.copy_(latest)

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

"""The engine: loaded models, open sessions, and ``step(plan) -> outcomes``."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tilestream.engine.dense import DenseExecutor, DenseResult
from tilestream.engine.device import choose_device, choose_precision
from tilestream.engine.options import EngineOptions
from tilestream.messages import (
    BinAccount,
    EngineError,
    FrameJob,
    FrameOutcome,
    FrameStats,
    ModelInfo,
    SessionSpec,
    StepPlan,
)
from tilestream.models import ModelError, list_models, load_model
from tilestream.models.census import count_macs, count_residual_blocks, shadow_of

logger = logging.getLogger(__name__)


class LoadedModel:
    """A model that is being served."""

    def __init__(self, module: nn.Module, executor: DenseExecutor) -> None:
        self.module, self.executor = module, executor
        self.residual_blocks = count_residual_blocks(self.module)
        self._shadow = shadow_of(self.module)
        self._macs: dict[tuple[int, int], int] = {}

    @property
    def info(self) -> ModelInfo:
        """What clients are told of it."""
        return self.module.info  # type: ignore[return-value]

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of one dense frame."""
        stride = self.executor.stride
        size = (height + -height % stride, width + -width % stride)
        if size not in self._macs:
            self._macs[size] = count_macs(self._shadow, *size)
        return self._macs[size]


class TorchEngine:
    """Computes every frame densely, batching frames of one model and size. Implements ``messages.Engine``."""

    def __init__(self, options: EngineOptions) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        self.device = choose_device(options.device)
        self.precision, self._dtype = choose_precision(options.precision, self.device)
        self._bin_size = options.bin_size
        self._models: dict[str, LoadedModel] = {}
        self._sessions: dict[str, SessionSpec] = {}
        for name in options.models or list_models():
            try:
                module = load_model(name)
            except ModelError as error:
                raise EngineError(str(error)) from error
            loaded = LoadedModel(module, DenseExecutor(module, self.device, self._dtype))
            if loaded.info.name in self._models:
                raise EngineError(f"two models are called {loaded.info.name!r}; rename one of the files")
            self._models[loaded.info.name] = loaded
        if not self._models:
            raise EngineError("no model to serve: no weights are shipped and none were named")

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(loaded.info for loaded in self._models.values())

    def open(self, spec: SessionSpec) -> None:
        if spec.model not in self._models:
            raise EngineError(f"unknown model {spec.model!r}; this server has {', '.join(self._models)}")
        self._sessions[spec.session_id] = spec

    def release(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def close(self) -> None:
        self._sessions.clear()
        self._models.clear()

    def step(self, plan: StepPlan) -> list[FrameOutcome]:
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
        outcomes: list[FrameOutcome | None] = [None] * len(plan.jobs)
        for index, job in enumerate(plan.jobs):
            spec = self._sessions.get(job.session_id)
            if spec is None:
                outcomes[index] = _failed(job, "the session is not open")
            else:
                groups[spec.model, job.image.shape].append(index)
        for (model, _), indices in groups.items():
            jobs = [plan.jobs[index] for index in indices]
            for index, outcome in zip(indices, self._compute(self._models[model], jobs), strict=True):
                outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _compute(self, model: LoadedModel, jobs: Sequence[FrameJob]) -> list[FrameOutcome]:
        want_confidence = any(self._sessions[job.session_id].want_confidence for job in jobs)
        try:
            result = model.executor.run([job.image for job in jobs], want_confidence)
            return [self._outcome(model, job, result, index) for index, job in enumerate(jobs)]
        except Exception:  # whatever went wrong concerns these frames only
            logger.exception("a batch of %d frames failed", len(jobs))
            return [_failed(job, "the computation failed; see the server's log") for job in jobs]

    def _outcome(self, model: LoadedModel, job: FrameJob, result: DenseResult, index: int) -> FrameOutcome:
        spec = self._sessions[job.session_id]
        height, width = job.image.shape[:2]
        grid = (-(-height // self._bin_size), -(-width // self._bin_size))
        units = model.residual_blocks * grid[0] * grid[1]
        stats = FrameStats(
            key_frame=True,
            units_computed=units,
            units_total=units,
            budget=1.0,
            macs=model.macs(height, width),
            stage_seconds={"backbone": result.backbone_seconds, "head": result.head_seconds},
        )
        confidence = result.confidence
        return FrameOutcome(
            job.session_id,
            job.frame_id,
            result.labels[index],
            stats,
            confidence=confidence[index] if spec.want_confidence and confidence is not None else None,
            bins=self._dense_account(model, grid) if spec.want_bins else None,
        )

    def _dense_account(self, model: LoadedModel, grid: tuple[int, int]) -> BinAccount:
        return BinAccount(
            bin_size=self._bin_size,
            units_computed=np.full(grid, model.residual_blocks, dtype=np.uint16),
            distortion=np.zeros(grid, dtype=np.float32),
            age=np.zeros(grid, dtype=np.uint16),
        )


def _failed(job: FrameJob, why: str) -> FrameOutcome:
    return FrameOutcome(job.session_id, job.frame_id, None, None, error=why)

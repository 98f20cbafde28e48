"""The engine: loaded models, open sessions, and ``step(plan) -> outcomes``."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from tilestream.engine.device import choose_device, default_store_bytes, divide, use_threads
from tilestream.engine.gates.gate import refreshes
from tilestream.engine.gates.registry import gate_kind
from tilestream.engine.ingest.host import decode_on_host
from tilestream.engine.ingest.ingest import Ingest
from tilestream.engine.lowering.program import LoweringError
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.options import EngineOptions
from tilestream.engine.precision import choose_precision
from tilestream.engine.report import DeviceGauge, engine_report
from tilestream.engine.resident.engine import ResidentEngine
from tilestream.messages import (
    EngineError,
    EngineInfo,
    EngineReport,
    Failure,
    Frame,
    Grant,
    ModelInfo,
    Outcome,
    SessionSpec,
    StepPlan,
)
from tilestream.models import ModelError, list_models, load_model
from tilestream.resources import resources

logger = logging.getLogger(__name__)

RESIDENT_DEVICES = ("cuda",)
"""Types of devices that keep the sessions' state themselves."""

REFUSE_SECONDS = 10.0  # no new sessions for so long after a step that did not fit into memory


class TorchEngine:
    """An engine per model, and which session uses which. Implements ``messages.Engine``."""

    def __init__(self, options: EngineOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self.device, threads = divide(choose_device(options.device), options.threads, options.part)
        use_threads(threads, resources().cores)
        self._models: dict[str, ModelEngine | ResidentEngine] = {}
        self._sessions: dict[str, SessionSpec] = {}
        self._tiles = 0  # of the latest step
        self._gauge = DeviceGauge(self.device)
        self._clock = clock
        self._refuse_until = float("-inf")
        names = options.models or list_models()
        if not names:
            raise EngineError("no model to serve: no weights are shipped and none were named")
        modules = [_module(name) for name in names]
        self.precision, self._dtype = choose_precision(options.precision, self.device, modules)
        self._ingest = Ingest(self.device)
        store_bytes = options.store_bytes or default_store_bytes(
            self.device, resources().memory, options.part
        )
        infos = [
            self._add(name, module, options, store_bytes // len(names))
            for name, module in zip(names, modules, strict=True)
        ]
        resident = all(isinstance(model, ResidentEngine) for model in self._models.values())
        takes = self._ingest.takes if resident else ()
        self._info = EngineInfo(tuple(infos), str(self.device), self.precision, takes)

    def _add(self, name: str, module: nn.Module, options: EngineOptions, store_bytes: int) -> ModelInfo:
        own: ModelInfo = module.info  # type: ignore[assignment]
        info = replace(own, gate=gate_kind(options.gate, name).name)
        if info.name in self._models:
            raise EngineError(f"two models are called {info.name!r}; rename one of the files")
        try:
            engine = self._models[info.name] = self._engine(name, module, options, store_bytes)
        except LoweringError as error:
            raise EngineError(f"model {info.name!r} cannot be run on tiles: {error}") from error
        return replace(info, looks_ahead=isinstance(engine, ModelEngine) and engine.looks_ahead)

    def _engine(
        self, name: str, module: nn.Module, options: EngineOptions, store_bytes: int
    ) -> ModelEngine | ResidentEngine:
        mean, std = tuple(module.mean), tuple(module.std)  # type: ignore[arg-type]
        kind = gate_kind(options.gate, name)
        gate = kind.make(name, options.bin_size)
        common = (module, self.device, self._dtype, mean, std, gate)
        if self.device.type in RESIDENT_DEVICES:
            if refreshes(gate):
                raise EngineError(
                    f"gate {kind.name!r} is run on a CPU only; on {self.device} take learned or every_k"
                )
            resident = ResidentEngine(
                *common,
                self._ingest.decode,
                bin_size=options.bin_size,
                store_bytes=store_bytes,
                fusion=options.fusion,
            )
            resident.warm_up()
            return resident
        reuse = ReuseOptions(bin_size=options.bin_size, store_bytes=store_bytes, fusion=options.fusion)
        return ModelEngine(*common, reuse, kind.motion())

    @property
    def info(self) -> EngineInfo:
        return self._info

    def open(self, spec: SessionSpec) -> None:
        if spec.model not in self._models:
            raise EngineError(f"unknown model {spec.model!r}; this server has {', '.join(self._models)}")
        if self._clock() < self._refuse_until:
            raise EngineError("out of memory a moment ago")
        self._sessions[spec.session_id] = spec
        self._models[spec.model].open(spec)

    def report(self) -> EngineReport:
        return engine_report(self._models.values(), self._gauge, self._tiles)

    def release(self, session_id: str) -> None:
        spec = self._sessions.pop(session_id, None)
        if spec is not None:
            self._models[spec.model].release(session_id)

    def check_health(self) -> None:
        """What computes in this process cannot break without it."""

    def close(self) -> None:
        self._sessions.clear()
        self._models.clear()

    def step(self, plan: StepPlan) -> list[Outcome]:
        groups: dict[str, list[int]] = defaultdict(list)
        outcomes: list[Outcome | None] = [None] * len(plan.frames)
        late: list[Outcome] = []
        self._tiles = 0
        for index, (frame, _) in enumerate(plan.frames):
            spec = self._sessions.get(frame.session_id)
            if spec is None:
                outcomes[index] = Outcome.failed(frame, "the session is not open")
            else:
                groups[spec.model].append(index)
        for model, indices in groups.items():
            work = [plan.frames[index] for index in indices]
            found = self._compute(self._models[model], work)
            late += found[len(work) :]
            for index, outcome in zip(indices, found, strict=False):
                outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None] + late + self._finish(plan)

    def _finish(self, plan: StepPlan) -> list[Outcome]:
        """What cannot wait any longer for later frames."""
        outcomes: list[Outcome] = []
        for session_id, frame_id in plan.due:
            spec = self._sessions.get(session_id)
            model = None if spec is None else self._models[spec.model]
            if isinstance(model, ModelEngine):
                outcomes += model.finish(session_id, frame_id)
        return outcomes

    def _compute(self, model: ModelEngine | ResidentEngine, work: list[tuple[Frame, Grant]]) -> list[Outcome]:
        try:
            return self._step_within_memory(model, work)
        except Exception as error:  # whatever went wrong concerns these frames only
            if _is_out_of_memory(error):
                self._refuse_until = self._clock() + REFUSE_SECONDS
            logger.exception("a batch of %d frames failed", len(work))
            for frame, _ in work:
                model.restart(frame.session_id)
            return [
                Outcome.failed(frame, "the computation failed; see the server's log") for frame, _ in work
            ]

    def _step_within_memory(
        self, model: ModelEngine | ResidentEngine, work: list[tuple[Frame, Grant]]
    ) -> list[Outcome]:
        """Run a step; if the memory does not suffice, make room and run it once more."""
        try:
            return self._step_model(model, work)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            logger.warning("out of memory in a step of %d frames; it is tried once more", len(work))
        # Not within the except clause: there the exception's frames would keep their tensors alive.
        self._make_room({frame.session_id for frame, _ in work})
        return self._step_model(model, work)

    def _step_model(
        self, model: ModelEngine | ResidentEngine, work: list[tuple[Frame, Grant]]
    ) -> list[Outcome]:
        """Run a step of those frames whose pictures can be used; the others' outcomes say why not."""
        if isinstance(model, ResidentEngine):
            outcomes = model.step(work)
            self._tiles += model.tiles
            return outcomes
        pictures = [decode_on_host(frame.picture) for frame, _ in work]
        usable = [
            (frame if picture is frame.picture else replace(frame, picture=picture), grant)
            for (frame, grant), picture in zip(work, pictures, strict=True)
            if not isinstance(picture, Failure)
        ]
        found = model.step(usable) if usable else []
        computed, late = iter(found), found[len(usable) :]
        self._tiles += model.tiles if usable else 0
        return [
            Outcome(frame.session_id, frame.frame_id, failure=picture)
            if isinstance(picture, Failure)
            else next(computed)
            for (frame, _), picture in zip(work, pictures, strict=True)
        ] + late

    def _make_room(self, busy: set[str]) -> None:
        """Evict the half of the idle sessions that was used longest ago; the busy ones restart."""
        for model in self._models.values():
            idle = [session_id for session_id in model.by_last_use() if session_id not in busy]
            for session_id in idle[: (len(idle) + 1) // 2]:
                model.evict(session_id)
            for session_id in busy:
                model.restart(session_id)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _module(name: str) -> nn.Module:
    try:
        return load_model(name)
    except ModelError as error:
        raise EngineError(str(error)) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory was short. PyTorch has no type of its own for that on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)

"""Which residual blocks to compute in which bins: what gates are told, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.gates.calibration import RiskCalibration
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.motion.flow import Motion
from tilestream.messages import Grant
from tilestream.scheduling.credit import WHOLE, Credit


class Spender(Protocol):
    """What gates are told of a session, see :class:`GateInput`, whichever engine remembers it."""

    credit: Credit
    calibration: RiskCalibration
    since_whole: int
    since_source: int
    refreshed: int
    averaged: int

    @property
    def looks_ahead(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class GateInput:
    """What a gate decides on: N frames of one size and one network.

    ``units``: residual blocks of the network. Of every frame, tensors [N]:
    ``budget``: float64, share (0..1] of the block units that it may compute.
    ``credit``: float64, whole frames' worth of budget that its session's earlier frames and this one have
    left over; below 0 where they took more than their share.
    ``limit``: float64, share of the block units that may be computed now, whatever the credit pays for.
    ``since_whole``, ``since_source``: float64, frames since the latest whole frame, and since the latest of
    which anything was computed; 1 for the one after it. ``refreshed``: float64, frames since the latest whole
    one in which some bins were computed.
    ``risk_scale``: float32, how many times as much of the session's computed bins was wrong as its gate had
    expected.
    ``averaged``: float64, whole frames that the labels are the mean of, all of them of one unmoved scene; 0
    where labels are not averaged. ``looks_ahead``: bool, whose labels may wait for the next whole frame.
    ``cells``: gives float32 [K, channels, h, w] of K of the frames, see ``cell_features``, for 1.5 ms each.
    ``doubt``: gives float32 [K, bins_h, bins_w] of K of the frames, see ``gates.doubt``.
    ``motion``: what brought the previous frames here.
    ``expected``: float32 [N, bins_h, bins_w], the share of wrong pixels that the gate's own network expects,
    where the engine has run it already, beside what it found the signals with.
    """

    signals: BinSignals
    units: int
    budget: Tensor
    credit: Tensor
    limit: Tensor
    since_whole: Tensor
    since_source: Tensor
    refreshed: Tensor
    risk_scale: Tensor
    averaged: Tensor
    looks_ahead: Tensor
    cells: Callable[[list[int]], Tensor] | None = None
    doubt: Callable[[list[int]], Tensor] | None = None
    motion: Motion | None = None
    expected: Tensor | None = None

    @classmethod
    def of(
        cls,
        signals: BinSignals,
        units: int,
        frames: Sequence[tuple[Grant, Spender]],
        *,
        cells: Callable[[list[int]], Tensor] | None = None,
        doubt: Callable[[list[int]], Tensor] | None = None,
        motion: Motion | None = None,
        expected: Tensor | None = None,
    ) -> GateInput:
        """Of ``frames``, each what the scheduler allows it and its session."""
        figures = np.array(
            [
                (
                    grant.budget,
                    session.credit.with_budget(grant.budget),
                    grant.limit,
                    session.since_whole,
                    session.since_source,
                    session.refreshed,
                    session.averaged,
                    session.calibration.scale,
                    session.looks_ahead,
                )
                for grant, session in frames
            ],
            dtype=np.float64,
        )
        budget, credit, limit, since_whole, since_source, refreshed, averaged, risk_scale, looks_ahead = (
            torch.from_numpy(figures).unbind(dim=1)
        )
        return cls(
            signals,
            units,
            budget=budget,
            credit=credit,
            limit=limit,
            since_whole=since_whole,
            since_source=since_source,
            refreshed=refreshed,
            averaged=averaged,
            looks_ahead=looks_ahead > 0,
            risk_scale=risk_scale.float(),
            cells=cells,
            doubt=doubt,
            motion=motion,
            expected=expected,
        )

    @property
    def bins(self) -> tuple[int, int]:
        """Rows and columns of bins."""
        rows, columns = self.signals.age.shape[1:]
        return rows, columns

    def pays_for_whole(self) -> Tensor:
        """Bool [N]: whose session has saved up for a whole frame, and now is the time for one."""
        return (self.credit >= WHOLE) & (self.budget > 0) & (self.limit >= 1.0)


@dataclass(frozen=True, slots=True)
class GateDecision:
    """``keep``: bool [N, units, bins_h, bins_w], what to compute: all of it in a whole frame.

    Masks may share memory between units: not to be written to. ``risk``: float32 [N, bins_h, bins_w], the
    share of pixels that the gate expects to be wrong, before ``risk_scale``; 0 where it does not judge; None
    if it never does.
    """

    keep: Tensor
    risk: Tensor | None = None

    @classmethod
    def of_bins(cls, frames: GateInput, keep: Tensor, risk: Tensor | None = None) -> GateDecision:
        """The same bins, bool [N, bins_h, bins_w], for all units."""
        return cls(keep[:, None].expand(-1, frames.units, -1, -1), risk)

    @classmethod
    def whole_or_nothing(cls, frames: GateInput, whole: Tensor, risk: Tensor | None = None) -> GateDecision:
        """Everything of the frames that ``whole``, bool [N], names, nothing of the others."""
        return cls.of_bins(frames, whole[:, None, None].expand(-1, *frames.bins), risk)


class Gate(Protocol):
    """Decides about frames. Keeps nothing between them, so that one gate serves all sessions.

    ``reuses_features``: False if it only ever keeps all bins or none. Then labels are all that is reused, and
    sessions have no features. It may have ``refreshes``, see :func:`refreshes`.
    """

    reuses_features: bool

    def decide(self, frames: GateInput) -> GateDecision:
        """What to compute of each of ``frames``, whichever others come with it. Same input, same answer.

        A scene cut is a whole frame. Otherwise no more is kept than the frame's ``limit``.
        """


def refreshes(gate: Gate) -> bool:
    """Whether the bins that it keeps between whole frames are those in doubt.

    Then sessions keep two sources, and computed labels are believed only where there is doubt.
    """
    return bool(getattr(gate, "refreshes", False))


def looks_ahead(gate: Gate) -> bool:
    """Whether labels of its sessions may wait for later frames: where bins are computed in every frame, there
    is no gap between whole ones that both sides could fill.
    """
    return refreshes(gate) or not gate.reuses_features


def first_bins(keys: tuple[Tensor, ...], counts: Tensor) -> Tensor:
    """Bool like the keys [N, bins_h, bins_w]: of every frame, the ``counts`` [N] bins that come first.

    Ordered by the first of ``keys``, the smallest first, among equals by the next one, then in raster order.
    """
    flat = [key.flatten(1) for key in keys]
    order = torch.arange(flat[0].shape[1]).expand_as(flat[0])
    for key in reversed(flat):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    chosen = torch.arange(order.shape[1]) < counts[:, None]
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, chosen).view(keys[0].shape)

"""A live session as people are shown it, in `tilestream top` and on the page."""

from __future__ import annotations

from typing import Any

from tilestream.v1 import segmentation_pb2 as pb


def session_row(session: pb.Session, time_us: int = 0) -> dict[str, Any]:
    """What is shown of a session; seconds, shares 0..1, None for what is not known (yet).

    ``time_us``: the server's clock, microseconds since the Unix epoch.
    """
    known = session.state in pb.SessionState.values()
    state = pb.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower() if known else "unknown"
    computed = session.frames_ok > 0
    return {
        "session": session.session_id,
        "camera": session.camera_id,
        "model": session.model,
        "state": state,
        "age": age(session.start_time_us, time_us),
        "fps": session.fps,
        "latency_p50": session.latency_p50_us / 1e6 if session.latency_p50_us else None,
        "latency_p99": session.latency_p99_us / 1e6 if session.latency_p99_us else None,
        "block_drop_rate": session.block_drop_rate if computed else None,
        "block_budget": session.block_budget if computed else None,
        "agreement": session.agreement if session.HasField("agreement") else None,
        "frames_ok": session.frames_ok,
        "frames_dropped": session.frames_dropped,
        "frames_invalid": session.frames_invalid,
    }


def age(start_us: int, time_us: int) -> float | None:
    """Seconds from one time to the other, both by the server's clock; None where it did not say."""
    return max(0.0, (time_us - start_us) / 1e6) if start_us and time_us else None

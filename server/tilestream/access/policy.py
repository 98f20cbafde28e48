"""What an identity may do: the policy file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Policy(BaseModel):
    """What one identity may do. None: what the server's settings say for every caller."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sessions: int | None = Field(
        default=None, ge=0
    )  # open at a time, suspended ones among them; 0: none at all
    streams: int | None = Field(default=None, ge=1)  # open at a time
    frames_per_second: float | None = Field(default=None, gt=0)  # over all its sessions
    calls_per_second: float | None = Field(default=None, gt=0)  # those that are not streams
    max_frame_bytes: int | None = Field(default=None, ge=1024)
    max_frame_pixels: int | None = Field(default=None, ge=64)
    models: tuple[str, ...] | None = Field(default=None, min_length=1)  # those it may use, its default first
    weight: float = Field(
        default=1.0, ge=0.01, le=100
    )  # its share of a busy server, relative to other identities
    sees_all: bool = False  # ListSessions tells of everybody's sessions
    administers: bool = False  # may do what is for operators: sees_all, and is not held to call rates

    @property
    def sees_everybody(self) -> bool:
        """Whether it is told of others' sessions."""
        return self.sees_all or self.administers


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a file. ``default``: of identities that it does not name."""

    default: Policy = field(default_factory=Policy)
    anonymous: Policy = field(default_factory=Policy)
    identities: Mapping[str, Policy] = field(default_factory=dict)

    def of(self, identity: str) -> Policy:
        """Of an identity; of anonymous callers where the name is empty."""
        return self.identities.get(identity, self.default) if identity else self.anonymous


class _File(BaseModel):
    """The content of a file."""

    model_config = ConfigDict(extra="forbid")

    default: Policy = Field(default_factory=Policy)
    anonymous: Policy = Field(default_factory=Policy)
    identities: dict[str, Policy] = Field(default_factory=dict)


def parse_policies(text: str) -> Policies:
    """The policies of a YAML file. Raises ValueError, which names every key that is wrong."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None
    try:
        file = _File.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(problem) for problem in error.errors())) from None
    return Policies(file.default, file.anonymous, file.identities)


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        known = Policy.model_fields if len(problem["loc"]) > 1 else _File.model_fields
        return f"{where}: no such key; allowed: {', '.join(known)}"
    return f"{where}: {problem['msg']} (is {problem['input']!r})"

"""All settings of the server, each described once, here.

Where a value comes from, the later wins: default, file (YAML or TOML), environment
(``TILESTREAM_PORT=...``), flag (``--port ...``). The flags and their help are made from the
fields below.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tilestream.engine.gates.registry import AUTO, NAMES, gates_help
from tilestream.engine.options import BLOCK_BUDGET, FUSION

ENV_PREFIX = "TILESTREAM_"
MAX_ENGINES = 64
_MESSAGE_OVERHEAD = 1024  # bytes of a request beside its frame, at most


class ConfigError(Exception):
    """Settings that cannot be used; the message names the setting and what is allowed."""


class Settings(BaseSettings):
    """The server's settings."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # Where it listens
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or [::] for all.")
    port: int = Field(50051, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    port_file: Path | None = Field(None, description="File to write the bound port to, once ready.")
    reflection: bool = Field(True, description="Offer gRPC server reflection.")

    # Who may listen in, and who may come
    tls_certificate: Path | None = Field(
        None,
        description="Certificate of the server, PEM, followed by those that issued it; with it the server "
        "speaks TLS and nothing else. Read again when it changes.",
    )
    tls_key: Path | None = Field(None, description="Key of tls_certificate, PEM, without a password.")
    tls_client_ca: Path | None = Field(
        None,
        description="Authorities, PEM; clients have to show a certificate that one of them issued.",
    )

    # What it computes with
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Models to serve: names or files, comma-separated, default first; empty: all shipped.",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Working precision; auto is bf16 where the device has it, else fp32; "
        "on GPUs fp16, where that is faster and loses nothing.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of an engine; 0: all cores, divided up.")
    engines: Literal["auto"] | int = Field(
        "auto",
        description="Engines in processes of their own; one that dies is replaced. "
        "0: one engine in the server's process; auto: one process per GPU, on a CPU 0.",
    )
    engine_standby: bool = Field(
        True,
        description="Keep a second process loaded for each engine process, which takes over at once. "
        "Costs the memory of its weights.",
    )
    engine_timeout: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds that a step may take in an engine's process until that is held to be dead.",
    )
    max_batch: int = Field(
        64, ge=1, le=1024, description="Most frames (of different sessions) per engine step."
    )
    max_step_seconds: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Seconds that an engine step may take, as predicted; 0: half of service_level.",
    )
    gate: str = Field(AUTO, description=f"What decides what is computed: {gates_help()}.")
    fusion: float = Field(
        FUSION,
        ge=0,
        le=0.9,
        description="Weight of the previous whole frame's scores in a whole frame, 0 = off "
        "(gates of whole frames only): smoother and better labels.",
    )
    block_budget: float = Field(
        BLOCK_BUDGET,
        gt=0,
        le=1,
        description="Share of the block units a frame may compute, for sessions that ask for automatic.",
    )
    min_block_budget: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Under load no session's budget is lowered below this. 1: budgets are never lowered.",
    )
    service_level: float = Field(
        0.1,
        gt=0,
        le=60,
        description="Seconds that a frame may take in the server (99th percentile) before budgets fall.",
    )
    bin_size: int = Field(
        64,
        ge=16,
        le=512,
        description="Side of a bin, pixels, a power of two: what is computed or reused as one.",
    )
    feature_memory: int = Field(
        2 << 30,
        ge=1 << 20,
        description="Memory for the features of all sessions, bytes, divided among engines and models; "
        "the rest is evicted.",
    )
    verify_jpegs: bool = Field(
        True,
        description="Look for damage in JPEGs that the engine decodes, for 1.5 ms of a core at 1280x720.",
    )
    media_threads: int = Field(2, ge=1, le=256, description="Threads that decode frames and encode masks.")

    # What sessions may ask for
    max_sessions: int = Field(64, ge=1, description="Most sessions at a time.")
    max_frames_in_flight: int = Field(8, ge=1, le=64, description="Most unanswered frames of a session.")
    max_message_bytes: int = Field(8 << 20, ge=1024, description="Largest request message, bytes.")
    max_frame_bytes: int = Field(4 << 20, ge=1024, description="Largest encoded frame, bytes.")
    max_frame_pixels: int = Field(3840 * 2160, ge=64, description="Largest frame, width x height in pixels.")
    max_frame_side: int = Field(8192, ge=8, le=65535, description="Longest side of frames and masks, pixels.")
    max_compute_pixels: int = Field(
        1280 * 960, ge=64, description="Larger frames are scaled down to this many pixels for the network."
    )

    # How long things last
    heartbeat_interval: float = Field(
        5.0, ge=0, le=3600, description="Seconds without an answer until a heartbeat is sent; 0: never."
    )
    idle_timeout: float = Field(
        60.0, ge=0, le=86400, description="Seconds without a request until a session ends; 0: never."
    )
    resume_ttl: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Seconds that a session whose stream was lost waits for its client; 0: it ends at once.",
    )
    max_session_age: float = Field(
        0.0, ge=0, description="Seconds until a session has to reconnect; 0: never."
    )
    max_age_notice: float = Field(
        10.0, ge=0, le=3600, description="Seconds before max_session_age at which a session is told."
    )
    grace_period: float = Field(
        10.0, ge=0, le=3600, description="Seconds to finish accepted frames after SIGTERM."
    )
    retry_delay: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="Seconds after which clients that were refused are told to come again.",
    )

    # What it tells
    metrics_port: int = Field(0, ge=0, le=65535, description="Port for Prometheus (/metrics); 0: off.")
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address for Prometheus; on another one than loopback with TLS as the server has it.",
    )
    log_format: Literal["console", "json"] = Field("console", description="Log lines for people or machines.")
    log_limit: int = Field(
        100,
        ge=0,
        description="Most log lines of one kind in 10 seconds, the rest is only counted; 0: no limit.",
    )
    trace_endpoint: str = Field(
        "", description="OTLP collector (gRPC) for a span per frame, http://HOST:PORT; empty: no traces."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @field_validator("models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("engines", mode="before")
    @classmethod
    def _engines_are_counted(cls, value: object) -> object:
        if value == "auto":
            return value
        text = str(value).strip()
        if not text.isdecimal() or int(text) > MAX_ENGINES:
            raise ValueError(f"has to be auto or a number from 0 to {MAX_ENGINES}")
        return int(text)

    @field_validator("gate")
    @classmethod
    def _gate_exists(cls, value: str) -> str:
        if value not in NAMES:
            raise ValueError(f"no such gate; there are {', '.join(NAMES)}")
        return value

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            absent = "tls_key" if self.tls_key is None else "tls_certificate"
            raise ValueError(f"{absent} is missing: tls_certificate and tls_key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError(
                "tls_client_ca needs tls_certificate and tls_key: clients show certificates over TLS only"
            )
        return self

    @model_validator(mode="after")
    def _frames_fit_into_messages(self) -> Self:
        if self.max_frame_bytes + _MESSAGE_OVERHEAD > self.max_message_bytes:
            raise ValueError(
                f"max_message_bytes has to be at least max_frame_bytes + {_MESSAGE_OVERHEAD}: a frame "
                "that is too large is to be answered, not to end its stream"
            )
        return self


def load_settings(flags: Mapping[str, object] | None = None, file: Path | None = None) -> Settings:
    """The settings from all places; ``flags`` holds only what was really given.

    Raises :class:`ConfigError`.
    """
    from_file = _read_file(file) if file else {}

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, from_file)

    try:
        loaded = Loaded(**dict(flags or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None
    return Settings.model_construct(**loaded.model_dump())


def _read_file(file: Path) -> dict[str, Any]:
    """The content of a settings file; its keys are the fields' names."""
    try:
        text = file.read_text(encoding="utf-8")
        content = tomllib.loads(text) if file.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"settings file {file}: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"settings file {file}: has to be a table of settings")
    return {str(key): value for key, value in content.items()}


def _explain(problem: Any) -> str:
    """One line for one wrong setting."""
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such setting; settings are {', '.join(Settings.model_fields)}"
    return f"{name}: {problem['msg']} (is {problem['input']!r})"

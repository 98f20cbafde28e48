"""All settings of the server, each described once, here.

Where a value comes from, the later wins: default, file (YAML or TOML), environment
(``TILESTREAM_PORT=...``), flag (``--port ...``). The flags and their help are made from the
fields below.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tilestream.engine.gates.registry import AUTO, NAMES, gates_help
from tilestream.engine.options import BLOCK_BUDGET, FUSION
from tilestream.listening import UNIX, is_loopback, socket_path, unbracketed

ENV_PREFIX = "TILESTREAM_"
MAX_ENGINES = 64
JWT_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those that may be allowed: signatures only, so that nobody who can check a token can make one."""
_MESSAGE_OVERHEAD = 1024  # bytes of a request beside its frame, at most
_LEAST_FEATURE_MEMORY = 1 << 20


class ConfigError(Exception):
    """Settings that cannot be used; the message names the setting and what is allowed."""


class Settings(BaseSettings):
    """The server's settings."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # Where it listens
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on, 0.0.0.0 or :: for all; unix:/path: a socket of the file system.",
    )
    port: int = Field(
        50051, ge=0, le=65535, description="Port to listen on; 0 takes a free one. Not for unix:/path."
    )
    port_file: Path | None = Field(
        None, description="File to write the bound port to, once ready; 0 for unix:/path."
    )
    reflection: bool = Field(True, description="Offer gRPC server reflection.")

    # Who may call
    allow_anonymous: bool = Field(
        False,
        description="Let callers in that show no credentials. Without it they are let in on loopback "
        "only, and only where no credentials are asked for.",
    )
    token_file: Path | None = Field(
        None,
        description="File of named tokens, as `tilestream token add NAME` makes it; read when it changes.",
    )
    jwks_file: Path | None = Field(
        None, description="File of public keys (JWKS) that sign callers' JWTs; read when it changes."
    )
    jwt_issuer: str = Field("", description="What JWTs have to have as `iss`; needed with jwks_file.")
    jwt_audience: str = Field("", description="What JWTs have to have in `aud`; needed with jwks_file.")
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        ("RS256", "ES256", "EdDSA"), description="Signatures of JWTs that are taken, comma-separated."
    )
    jwt_name_claim: str = Field("sub", description="The claim of a JWT that has the identity's name.")
    policy_file: Path | None = Field(
        None, description="YAML file of what identities may do; read when it changes."
    )

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
    threads: int = Field(
        0,
        ge=0,
        description="CPU threads of an engine; 0: all cores (that a quota leaves), divided up.",
    )
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
        0,
        ge=0,
        description="Memory for the features of all sessions, bytes, divided among engines and models; "
        "the rest is evicted. 0: 2 GiB; on a CPU a third of the memory (or its limit), if that is less.",
    )
    verify_jpegs: bool = Field(
        True,
        description="Look for damage in JPEGs that the engine decodes, for 1.5 ms of a core at 1280x720.",
    )
    media_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads that decode frames and encode masks; 0: 2, or 1 where there is one core.",
    )

    # What sessions may ask for
    max_sessions: int = Field(64, ge=1, description="Most sessions at a time.")
    max_sessions_per_caller: int = Field(
        0,
        ge=0,
        description="Most sessions of an identity or, of anonymous callers, of a connection; "
        "0: max_sessions.",
    )
    max_frames_per_second: float = Field(
        0.0,
        ge=0,
        description="Frames per second that an identity, or an anonymous connection, may send over all its "
        "sessions; the rest is dropped. 0: no limit.",
    )
    max_frames_in_flight: int = Field(8, ge=1, le=64, description="Most unanswered frames of a session.")
    max_delay: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Seconds that labels may wait for later frames where a session asks for that. "
        "0: none waits.",
    )
    max_message_bytes: int = Field(8 << 20, ge=1024, description="Largest request message, bytes.")
    max_frame_bytes: int = Field(4 << 20, ge=1024, description="Largest encoded frame, bytes.")
    max_frame_pixels: int = Field(3840 * 2160, ge=64, description="Largest frame, width x height in pixels.")
    max_frame_side: int = Field(8192, ge=8, le=65535, description="Longest side of frames and masks, pixels.")
    max_decode_seconds: float = Field(
        0.5,
        gt=0,
        le=60,
        description="Longest time of a core that decoding a frame may take, as estimated from its header: "
        "above, as with progressive JPEGs of many scans, it is answered INVALID (TOO_COSTLY).",
    )
    max_video_sessions: int = Field(
        64,
        ge=0,
        description="Most sessions at a time that send H.264 or H.265; each has a decoder. 0: none may.",
    )
    max_decoder_bytes: int = Field(
        256 << 20,
        ge=1 << 20,
        description="Memory that the pictures of one H.264 or H.265 decoder may take, bytes, as its headers "
        "tell: units above are answered INVALID (TOO_COSTLY).",
    )
    max_compute_pixels: int = Field(
        1280 * 960, ge=64, description="Larger frames are scaled down to this many pixels for the network."
    )

    # What calls may hold
    max_streams: int = Field(
        0, ge=0, description="Most streams open at a time; 0: twice max_sessions and 64 more."
    )
    max_streams_per_caller: int = Field(
        0,
        ge=0,
        description="Most streams of an identity or an anonymous connection; 0: as many as it may have "
        "sessions, and max_unconfigured_streams more.",
    )
    max_unconfigured_streams: int = Field(
        64,
        ge=1,
        description="Most streams and other calls of a connection that have not sent a request yet; "
        "of all connections together four times as many.",
    )
    max_calls_per_second: float = Field(
        200.0,
        ge=0,
        description="Calls per second, other than streams, of an identity or an anonymous connection; "
        "0: no limit.",
    )
    max_connections: int = Field(4096, ge=1, description="Most connections at a time.")

    # How long things last
    config_timeout: float = Field(
        5.0, gt=0, le=3600, description="Seconds that a stream may take to send its config."
    )
    silence_timeout: float = Field(
        5.0,
        ge=0,
        le=86400,
        description="Seconds without a frame after which a session gives way to somebody who has "
        "fewer, where all places are taken; 0: never.",
    )
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
    web_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of a page with the live sessions, for browsers; 0: off.",
    )
    web_host: str = Field(
        "127.0.0.1",
        description="Address of the page; identities and TLS are as for gRPC, on loopback, too.",
    )
    web_frames: bool = Field(
        False,
        description="Show the cameras' latest pictures and labels on the page, to whoever sees the session.",
    )
    web_viewers: int = Field(
        16,
        ge=1,
        le=1024,
        description="Most pages that are open at a time; a viewer of a 1280x720 camera takes 3 % of a core.",
    )
    web_names: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names by which browsers may call the page, comma-separated; needed where callers "
        "show neither credentials nor certificates. Addresses and localhost always do.",
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

    @field_validator("models", "jwt_algorithms", "web_names", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
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

    @field_validator("host", "metrics_host", "web_host")
    @classmethod
    def _host_is_an_address(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith(UNIX) and info.field_name == "host":
            socket_path(value)
        elif ":" in value:
            try:
                ip_address(unbracketed(value).partition("%")[0])
            except ValueError:
                raise ValueError(
                    "has to be a name or an address, without a port (IPv6 such as ::1)"
                    + (", or unix:/path" if info.field_name == "host" else "")
                ) from None
        return value

    @field_validator("bin_size")
    @classmethod
    def _bins_halve(cls, value: int) -> int:
        if value & (value - 1):
            allowed = ", ".join(str(1 << power) for power in range(4, 10))
            raise ValueError(f"has to be a power of two: {allowed}")
        return value

    @field_validator("feature_memory")
    @classmethod
    def _some_feature_memory(cls, value: int) -> int:
        if 0 < value < _LEAST_FEATURE_MEMORY:
            raise ValueError(f"has to be at least {_LEAST_FEATURE_MEMORY}, or 0")
        return value

    @field_validator("gate")
    @classmethod
    def _gate_exists(cls, value: str) -> str:
        if value not in NAMES:
            raise ValueError(f"no such gate; there are {', '.join(NAMES)}")
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _algorithms_are_safe(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(JWT_ALGORITHMS):
            raise ValueError(f"allowed: {', '.join(JWT_ALGORITHMS)}")
        return value

    @model_validator(mode="after")
    def _jwts_are_pinned(self) -> Self:
        if self.jwks_file is not None and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError("jwks_file needs jwt_issuer and jwt_audience: JWTs for others must not do")
        return self

    @model_validator(mode="after")
    def _strangers_are_meant(self) -> Self:
        if self.authenticates or self.allow_anonymous:
            return self
        for name, host in (("host", self.host), *([("web_host", self.web_host)] if self.web_port else [])):
            if not is_local(host):
                raise ValueError(
                    f"{name} {host} is reached from elsewhere, and nothing tells who calls: set token_file, "
                    "jwks_file or tls_client_ca, or allow_anonymous where the network is trusted"
                )
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_local(self.host)

    @property
    def authenticates(self) -> bool:
        """Whether callers can show who they are."""
        files = (self.token_file, self.jwks_file, self.tls_client_ca)
        return any(file is not None for file in files)

    @property
    def lets_strangers_in(self) -> bool:
        """Whether callers need not show who they are."""
        return self.allow_anonymous or not self.authenticates

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


def is_local(host: str) -> bool:
    """Whether an address to listen on is this machine's own: loopback, or a unix socket."""
    return host.startswith((UNIX, "unix-abstract:")) or is_loopback(host)


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
    """One line for one wrong setting, or for several that do not go together."""
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such setting; settings are {', '.join(Settings.model_fields)}"
    own = problem.get("ctx", {}).get("error")  # a ValueError from above, without pydantic's words before it
    said = str(own) if isinstance(own, ValueError) else problem["msg"]
    return f"{name}: {said} (is {problem['input']!r})" if name else said

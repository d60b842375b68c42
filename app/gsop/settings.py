"""Settings: read once from the environment, frozen, passed on as an argument.

But for :mod:`gsop.environment` this module is the only reader of the environment. Every field is
set by ``GSOP_<NAME>``; ``gsop serve`` has an option for each but the secret ones (``repr=False``).
A value of ``0`` in the fields that say so means "choose for this machine".
"""

import difflib
import hashlib
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gsop.cpus import cpu_count
from gsop.cuda_options import CudaOptions
from gsop.environment import CageMode
from gsop.errors import ConfigError
from gsop.keys import ApiKey, check_distinct, read_entries
from gsop.paths import is_utf8, printable

Precision = Literal["auto", "float32", "bfloat16", "float16"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "text"]


OWN_STORE = Path("model_store")
"""The store in the working folder: where versions are published to if no other is named."""

SHIPPED_STORE = Path(__file__).parent / "model_store"
"""The store that the package brings, with the default model; nothing is published to it."""


def _find_store() -> Path:
    # Not Path.is_dir, which raises where the working folder may not be looked into.
    return OWN_STORE if os.path.isdir(OWN_STORE) else SHIPPED_STORE  # noqa: PTH112


THEMES = {
    "host": "address and access",
    "model_store": "models",
    "device": "computing",
    "slots": "slots, processes, connections",
    "timeout_ms": "bounds of a request",
    "drain_seconds": "stopping, and what hangs",
    "log_level": "log",
}
"""The settings' themes, in the order of the fields: the first field of each, and its title."""


class Settings(BaseSettings):
    """All settings of the service. Times are in the unit that the name ends with."""

    model_config = SettingsConfigDict(env_prefix="GSOP_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for the Open Inference Protocol over gRPC (the extra `grpc`); 0 takes a "
        "free one. None: no gRPC.",
    )
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        (),
        repr=False,
        description="Who may use the service: entries of `gsop key`, comma-separated. "
        "Without any, everybody who reaches the port.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File with more entries, one a line; `#` begins a comment. It is followed: "
        "what is added or withdrawn there counts within a second.",
    )
    rate_per_key: float = Field(
        0,
        ge=0,
        description="Requests a second that a key may make (429 beyond it), after twice as many at "
        "once; 0: any.",
    )
    rate_shared: bool = Field(
        False,
        description="Whether `GSOP_RATE_PER_KEY` counts for all instances of `GSOP_SHARED_URL` "
        "together, some seconds after the fact; while that is away, for each alone.",
    )
    allow_anonymous: bool = Field(
        False, description="Whether to listen on a public address without API keys."
    )
    tls_certfile: Path | None = Field(
        None, description="Certificate chain (PEM): the service then speaks HTTPS only."
    )
    tls_keyfile: Path | None = Field(
        None, description="Its private key (PEM); the certificate's file if absent."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose pages may call the service from a browser, comma-separated, "
        "or `*`.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names under which the service is answered, comma-separated, without ports, "
        "or `*`; on a loopback address `localhost`, `127.0.0.1` and `[::1]` always, and other "
        "names only if they are here. Elsewhere none means any.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For` says who a client "
        "is, comma-separated; nobody else's is believed. They must set it, not pass it on.",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[\w.~-]+)*$",
        description="Prefix under which clients see the service behind a proxy, such as `/gsop`; "
        "whether the proxy strips it does not matter.",
    )
    model_store: Path = Field(
        default_factory=_find_store,
        description="Folder of the model versions. Where the working folder has no `model_store`, "
        "the default is the store that ships with the package. An address such as "
        "`s3://BUCKET/PREFIX` is taken for `GSOP_REMOTE_STORE`.",
    )
    remote_store: str = Field(
        "",
        description="Address of a store elsewhere (`s3://`, `gs://`, `az://`, `https://`; the "
        "extra `remote`). What is asked for is fetched from it into `GSOP_MODEL_STORE`, by default "
        "a folder in `GSOP_CACHE`, verified, and served from there "
        "([docs/stores.md](docs/stores.md)).",
    )
    remote_seconds: float = Field(
        30, ge=1, description="How often a remote store is asked for new versions."
    )
    store_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of fetched versions that are kept; those unused for longest make room. "
        "0: as many as the disk holds.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("digits",),
        description="Models to load, comma-separated: `name` (its newest version) or "
        "`name/version`. The first answers requests that name none.",
    )
    state: Path | None = Field(
        None,
        description="File that keeps what is loaded and how requests are spread, over restarts; "
        "where there is one, it is followed and not `GSOP_MODELS`. None: changes end with the "
        "service.",
    )
    follow: bool = Field(
        False,
        description="Whether to bring the service to what `GSOP_STATE` says when it changes; "
        "without that file, to the newest versions of a remote store.",
    )
    load_seconds: float = Field(
        300, gt=0, description="How long a version may take to load while others serve."
    )
    replica: str = Field(
        "",
        max_length=253,
        description="Name of this instance among several, such as its pod's: ids of predictions "
        "begin with six characters that are made of it. Empty: by chance at each start.",
    )
    shared_url: str = Field(
        "",
        repr=False,
        description="Address of a Redis or Valkey (`redis://`, `rediss://`, `unix://`; the extra "
        "`shared`) by which instances find each other's predictions and add up their statistics. "
        "None: each knows its own.",
    )
    shared_seconds: int = Field(
        600, ge=5, description="How long predictions and statistics are kept there."
    )
    attention_records: int = Field(
        1024, ge=1, le=1_000_000, description="Predictions whose gates are kept, a model."
    )
    inspect: bool = Field(
        True,
        description="Whether `POST /inspect` takes answers apart, in a process that is there while "
        "it is asked for.",
    )
    drift_window: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="Different images whose gates are compared with a version's reference "
        "together, 100 at least; 0: drift is not watched.",
    )
    drift_learn: int = Field(
        2000,
        ge=0,
        le=100_000,
        description="Served images that a reference is learned from, 500 at least, for a version "
        "that brings none; 0: none is learned.",
    )
    device: str = Field(
        "auto",
        description="`auto` (CUDA if there is one, else the CPU), `cpu`, `cuda`, or a "
        "comma-separated list such as `cuda:0,cuda:1`: one engine each. Also the UUID of a GPU or "
        "of a MIG slice, as `nvidia-smi -L` has it.",
    )
    precision: Precision = Field(
        "auto", description="`auto` is bfloat16 on CUDA and float32 on the CPU."
    )
    backend: str = Field(
        "torch",
        pattern=r"^[\w.-]+(:[\w.]+)?$",
        description="What computes: `torch`; `openvino` (the extra of that name; the CPU only); "
        "`null` (nothing: for measuring); one that another package adds, by its name; or one of "
        "your own as `module:Class`.",
    )
    cache: str = Field(
        "auto",
        description="Folder where `GSOP_BACKEND=openvino` keeps what it has translated, for the "
        "next start. `auto`: `gsop` in `XDG_CACHE_HOME` or `~/.cache`; empty: nothing is kept.",
    )
    cuda_options: str = Field(
        "",
        description="Ways to compute on CUDA that are to be measured first, comma-separated "
        "`name=value` "
        "([the list](docs/performance.md#on-a-cuda-device)). Empty: the plain ways.",
    )
    pixels: Literal["decoded", "planes"] = Field(
        "decoded",
        description="What decoders make of a JPEG: `decoded`, the network's pixels; `planes`, its "
        "luma and chroma, of which a CUDA device makes them. To be measured first; needs "
        "libturbojpeg.",
    )
    max_batch: int = Field(
        0, ge=0, le=1024, description="Most images in a batch; 0: 64 on CUDA, 16 on the CPU."
    )
    target_latency_ms: int = Field(
        0,
        ge=0,
        le=3_600_000,
        description="What a request should take at most: bounds a batch by the time that it is "
        "expected to take. 0: only `GSOP_MAX_BATCH` bounds it.",
    )
    torch_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads of the CPU forward; 0: as many processors as the fronts leave while "
        "the engine is busy, by how long an image takes. More only wait for each other, by "
        "spinning.",
    )
    slots: int = Field(
        256, ge=1, le=65536, description="Images in the service at once; more are refused (429)."
    )
    slots_per_client: int = Field(
        0,
        ge=0,
        le=65536,
        description="Most of them for one client: an API key, or without keys an address (behind a "
        "proxy see `GSOP_TRUSTED_PROXIES`). 0: all but one of eight.",
    )
    fronts: int = Field(
        0, ge=0, le=64, description="HTTP processes; 0: one for every two processors, at most 8."
    )
    decoders: int = Field(
        0,
        ge=0,
        le=64,
        description="Decoding processes of each front; 0: the front's processors and one more.",
    )
    cage: CageMode = Field(
        "auto",
        description="Whether processes give up what they do not need, decoders above all: `auto` "
        "as far as the system lets them, `required` (the service refuses to start where that is "
        "not far enough) or `off`.",
    )
    max_connections: int = Field(
        1024,
        ge=1,
        description="Connections of a front; of more, one of the client with most is closed, "
        "idle ones first.",
    )
    keep_alive_seconds: int = Field(
        3660,
        ge=1,
        le=86_400,
        description="How long a connection is kept after an answer. A proxy must close its idle "
        "ones first, or a request meets the closing; the default is longer than an hour, "
        "[which is Envoy's](docs/reliability.md#idle-connections).",
    )
    timeout_ms: int = Field(
        30_000, ge=1, le=3_600_000, description="Deadline of a request that sets none."
    )
    decode_seconds: float = Field(
        5,
        gt=0,
        description="How long one image may take to decode; it is refused (400) after it, and its "
        "decoder replaced.",
    )
    head_seconds: float = Field(
        10,
        gt=0,
        description="How long a request's head may take to arrive, or a TLS handshake; "
        "three times as long may an answer stay unread.",
    )
    max_body_bytes: int = Field(10 * 2**20, ge=1, description="Largest request body.")
    body_seconds: float = Field(
        30, gt=0, description="How long a request's body may take to arrive (408 after it)."
    )
    body_rate: int = Field(
        1000,
        ge=0,
        description="Bytes a second that a body must come with after its first 5 s (408 else); "
        "0: only `GSOP_BODY_SECONDS` bounds it.",
    )
    body_memory_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="Bytes of bodies that a front holds at once, one client's at most half of "
        "them; more are refused (429).",
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Largest image, judged from its header."
    )
    max_images: int = Field(32, ge=1, le=1024, description="Most images in one request.")
    drain_seconds: float = Field(
        30, gt=0, description="After SIGTERM, how long work in flight may take."
    )
    drain_delay_seconds: float = Field(
        0, ge=0, description="After SIGTERM, how long to serve on while /readyz already says no."
    )
    hang_seconds: float = Field(
        60,
        gt=0,
        description="A batch that takes longer has hung, and so has an engine that shows no life "
        "for as long: it is replaced.",
    )
    log_level: LogLevel = Field("info", description="Least severe log line that is written.")
    log_format: LogFormat = Field(
        "auto", description="`json`, `text`, or `auto`: text on a terminal, else JSON."
    )
    log_requests: bool = Field(
        False, description="Whether each request gets a log line; failed ones (500) always do."
    )

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Settings of the environment, with ``overrides`` (those not ``None``) on top.

        Raises:
            ConfigError: naming each variable that is wrong, and what it can be.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            settings = cls(**given)  # type: ignore[arg-type]  # validated by pydantic
            if settings.api_keys_file is None:
                return settings
            keys = (*settings.api_keys, *read_entries(settings.api_keys_file))
            return cls(**given | {"api_keys": keys})  # type: ignore[arg-type]
        except ValidationError as error:
            reasons = "; ".join(
                f"GSOP_{str(e['loc'][0]).upper()}: {e['msg']}" if e["loc"] else e["msg"]
                for e in error.errors()
            )
            # Not `from error`: its text repeats the values, and one may be a key.
            raise ConfigError(f"the settings are wrong: {reasons}") from None

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if isinstance(value, str):
            value = _entries(value)
        if isinstance(value, list | tuple):
            return tuple(ApiKey.parse(part) if isinstance(part, str) else part for part in value)
        return value

    @field_validator("models", "cors_origins", "allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="before")
    @classmethod
    def _place_remote(cls, values: dict[str, Any]) -> dict[str, Any]:
        """An address in place of the store's folder; and the folder of an address that has none."""
        given = dict(values)
        if "://" in str(given.get("model_store", "")):
            given["remote_store"] = str(given.pop("model_store"))
        if given.get("remote_store") and "model_store" not in given:
            cache = _cache_folder(str(given.get("cache", "auto")))
            if cache is None:
                raise ValueError(
                    "GSOP_REMOTE_STORE: name the folder where its models are kept with "
                    "GSOP_MODEL_STORE, or GSOP_CACHE"
                )
            address = str(given["remote_store"]).partition("#")[0]
            name = hashlib.sha256(address.encode()).hexdigest()[:16]
            given["model_store"] = cache / "models" / name
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Path) and not is_utf8(value):
                raise ValueError(
                    f"GSOP_{name.upper()}: {printable(value)} is no UTF-8: rename the file or "
                    "folder"
                )
        _check_devices(self.devices)
        try:
            CudaOptions.parse(self.cuda_options)
        except ValueError as error:
            raise ValueError(f"GSOP_CUDA_OPTIONS: {error}") from None
        _check_proxies(self.trusted_proxies)
        if not self.models:
            raise ValueError("GSOP_MODELS names no model")
        if len(set(self.models)) != len(self.models):
            raise ValueError("GSOP_MODELS names a model twice")
        check_distinct(self.api_keys)
        if 0 < self.drift_window < 100:
            raise ValueError("GSOP_DRIFT_WINDOW: 100 images at least, or 0")
        if 0 < self.drift_learn < 500:
            raise ValueError("GSOP_DRIFT_LEARN: 500 images at least, or 0")
        if self.follow and self.state is None and not self.remote_store:
            raise ValueError(
                "GSOP_FOLLOW without GSOP_STATE: name the file that is to be followed, or a remote "
                "store"
            )
        if self.rate_shared and not (self.shared_url and self.rate_per_key):
            raise ValueError(
                "GSOP_RATE_SHARED without GSOP_SHARED_URL and GSOP_RATE_PER_KEY: set all three, or "
                "leave it out"
            )
        if self.tls_keyfile is not None and self.tls_certfile is None:
            raise ValueError("GSOP_TLS_KEYFILE without GSOP_TLS_CERTFILE: set both, or neither")
        if self.body_memory_bytes < self.max_body_bytes:
            raise ValueError(
                f"GSOP_BODY_MEMORY_BYTES ({self.body_memory_bytes}) holds no body of "
                f"GSOP_MAX_BODY_BYTES ({self.max_body_bytes})"
            )
        if self.slots < self.front_count:
            raise ValueError(
                f"GSOP_SLOTS ({self.slots}) is less than one for each of the "
                f"{self.front_count} fronts"
            )
        return self

    @property
    def own_store(self) -> Path:
        """The store to publish to: in place of the one that ships, :data:`OWN_STORE`."""
        return OWN_STORE if self.model_store == SHIPPED_STORE else self.model_store

    @property
    def devices(self) -> tuple[str, ...]:
        """One entry an engine."""
        return tuple(part.strip() for part in self.device.split(",") if part.strip())

    @property
    def replica_mark(self) -> str:
        """What the ids of this instance's predictions begin with."""
        return hashlib.sha256(self.replica.encode()).hexdigest()[:6]

    @property
    def cuda(self) -> CudaOptions:
        """How CUDA devices compute."""
        return CudaOptions.parse(self.cuda_options)

    @property
    def front_count(self) -> int:
        """HTTP processes to run."""
        return self.fronts or max(1, min(8, cpu_count() // 2))

    @property
    def decoder_count(self) -> int:
        """Decoding processes of each front.

        One more than there are processors for: while one waits for the front to bring the next
        image, another has one to work on (docs/performance.md).
        """
        return self.decoders or cpu_count() // self.front_count + 1

    @property
    def cache_folder(self) -> Path | None:
        """The folder that ``GSOP_CACHE`` means; ``None`` if nothing is to be kept."""
        return _cache_folder(self.cache)


def _cache_folder(cache: str) -> Path | None:
    """The folder that ``GSOP_CACHE`` means."""
    if cache != "auto":
        return Path(cache) if cache else None
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is to be ignored, says the XDG Base Directory Specification.
    if base.is_absolute():
        return base / "gsop"
    try:
        return Path.home() / ".cache" / "gsop"
    except RuntimeError:  # a user without a home
        return None


def _check_proxies(names: Sequence[str]) -> None:
    for name in names:
        try:
            ipaddress.ip_network(name)
        except ValueError:
            raise ValueError(
                f"GSOP_TRUSTED_PROXIES names {name!r}: write addresses or networks, such as "
                "127.0.0.1 or 10.0.0.0/8"
            ) from None


def unknown_variables() -> list[str]:
    """What is wrong with variables of the environment that look like settings and are none."""
    known = {f"GSOP_{name.upper()}" for name in Settings.model_fields} | {"GSOP_CLIENT_KEY"}
    texts = []
    for name in sorted(os.environ):
        if name.startswith("GSOP_") and name not in known and not _OF_KUBERNETES.match(name):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            texts.append(f"{name} is no setting, and ignored{hint}")
    return texts


_OF_KUBERNETES = re.compile(r"GSOP_(SERVICE|PORT_\d)")
"""What Kubernetes sets for a service that is called gsop."""


_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?|(GPU|MIG)-[\w/-]+")


def _check_devices(names: Sequence[str]) -> None:
    for name in names:
        if not _DEVICE.fullmatch(name):
            raise ValueError(
                f"GSOP_DEVICE names {name!r}: use auto, cpu, cuda, cuda:N, or a UUID that "
                "`nvidia-smi -L` shows (GPU-..., MIG-...)"
            )
    if not names or ("auto" in names and len(names) > 1):
        raise ValueError("GSOP_DEVICE names no device, or auto beside others: name each of them")


def _entries(text: str) -> list[str]:
    """Of ``GSOP_API_KEYS``: separated by commas or spaces, or a whole file with its comments."""
    return re.sub(r"#[^\n]*", "", text).replace(",", " ").split()


def read_api_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of ``GSOP_API_KEYS`` and of its file, as they are now.

    Raises:
        ConfigError: if the file cannot be read, or an entry is wrong.
    """
    given = _entries(os.environ.get("GSOP_API_KEYS", ""))
    try:
        keys = tuple(map(ApiKey.parse, [*given, *read_entries(path)]))
        check_distinct(keys)
    except ValueError as error:
        raise ConfigError(f"GSOP_API_KEYS_FILE: {path}: {error}") from None
    return keys

"""``gsop serve``: run the service until SIGTERM or Ctrl-C."""

import contextlib
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import ssl
from pathlib import Path
from types import FrameType

from gsop.api.http.routes import ROUTES
from gsop.cpus import describe_cpus
from gsop.errors import ConfigError, SetupError
from gsop.logs import configure
from gsop.processes.cage import hide
from gsop.processes.listener import probe_idle
from gsop.serving.operator import Operator, Start
from gsop.serving.supervisor import Supervisor
from gsop.settings import Settings

log = logging.getLogger("gsop")


def serve(settings: Settings) -> int:
    """Run the service; the exit status.

    Raises:
        SetupError: if it cannot start; the message is for the operator.
    """
    configure("supervisor", level=settings.log_level, form=settings.log_format)
    if settings.cage != "off":
        hide()
    scheme = "http" if settings.tls_certfile is None else "https"
    if settings.tls_certfile is not None:
        _check_certificate(settings.tls_certfile, settings.tls_keyfile)
    if settings.grpc_port is not None:
        _check_grpc()
    with contextlib.ExitStack() as held:
        if settings.grpc_port is not None:
            reserved = held.enter_context(_reserve(settings))
            port = reserved.getsockname()[1]
            settings = settings.model_copy(update={"grpc_port": port})
        return _serve(settings, scheme)


def _serve(settings: Settings, scheme: str) -> int:
    start = Start(settings)
    with (
        _listen(settings) as listener,
        Supervisor(
            settings,
            start.manifests,
            routes=ROUTES,
            front_modules=["gsop.api.http.front", *_grpc_modules(settings)],
            adopt=True,
        ) as supervisor,
    ):
        _stop_on_signal(supervisor)
        supervisor.start_engines()
        supervisor.start_fronts("gsop.api.http.front:main", listener)
        host, port = listener.getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("%s", describe_cpus())
        log.info("listening on %s://%s (pages: / and /docs)", scheme, where)
        if settings.grpc_port is not None:
            log.info("and on port %d over gRPC", settings.grpc_port)
        with Operator(supervisor, start):
            supervisor.wait()
        if supervisor.failure is not None:
            raise SetupError(supervisor.failure)
        log.info("stopping: work in flight is answered first")
        return 0 if supervisor.stop() else 1


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if not settings.api_keys and not settings.allow_anonymous:
            _refuse_public(host, str(address[0]))
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe_idle(listener)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): "
            "choose others with GSOP_HOST and GSOP_PORT"
        ) from error
    return listener


def _reserve(settings: Settings) -> socket.socket:
    """The port that the fronts will share for gRPC, held so that nobody else takes it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host,
            settings.grpc_port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        reserved = socket.socket(family, socket.SOCK_STREAM)
        try:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(address)
        except OSError:
            reserved.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host} port {settings.grpc_port} "
            f"({error.strerror or error}): choose another with GSOP_GRPC_PORT"
        ) from error
    return reserved


def _grpc_modules(settings: Settings) -> list[str]:
    return [] if settings.grpc_port is None else ["gsop.api.oip.grpc_server"]


def _check_grpc() -> None:
    for module in ("grpc", "grpc_health", "grpc_reflection"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                "GSOP_GRPC_PORT needs the extra grpc: pip install '.[grpc]', or unset it"
            )


def _refuse_public(host: str, address: str) -> None:
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise ConfigError(
            f"GSOP_HOST is {host}, which others can reach, and there are no API keys: set "
            "GSOP_API_KEYS or GSOP_API_KEYS_FILE (`gsop key` makes a key), or say that everybody "
            "may use the service with GSOP_ALLOW_ANONYMOUS=true"
        )


def _check_certificate(certificate: Path, key: Path | None) -> None:
    """Fail now, in one line, rather than in every front."""
    try:
        # An empty password, or a key that wants one would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"GSOP_TLS_CERTFILE ({certificate}) and GSOP_TLS_KEYFILE ({key}) cannot be used "
            f"({error}): name a PEM chain and its key, without a password"
        ) from error


def _stop_on_signal(supervisor: Supervisor) -> None:
    def handle(number: int, _frame: FrameType | None) -> None:
        # The second one is meant: it ends this process, and with it all others.
        signal.signal(number, _end_at_once)
        supervisor.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # as process 1 of a container, which the kernel lets ignore it

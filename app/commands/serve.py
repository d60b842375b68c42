"""``gsop serve``: run the service until SIGTERM or Ctrl-C."""

import logging
import signal
import socket
import sys
from types import FrameType

from app.engine.supervisor import Supervisor
from app.errors import ConfigError, SetupError
from app.settings import Settings
from app.store.catalog import resolve

log = logging.getLogger("gsop")


def serve(settings: Settings) -> int:
    """Run the service; the exit status.

    Raises:
        SetupError: if it cannot start; the message is for the operator.
    """
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s gsop: %(message)s"
    )
    manifests = [resolve(settings.model_store, name) for name in settings.models]
    with (
        _listen(settings.host, settings.port) as listener,
        Supervisor(settings, manifests) as supervisor,
    ):
        _stop_on_signal(supervisor)
        supervisor.start_engines()
        supervisor.start_fronts([sys.executable, "-m", "app.api.front"], listener)
        host, port = listener.getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("listening on http://%s (pages: /docs)", where)
        supervisor.wait()
        if supervisor.failure is not None:
            raise SetupError(supervisor.failure)
        log.info("stopping: work in flight is answered first")
        return 0 if supervisor.stop() else 1


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def _stop_on_signal(supervisor: Supervisor) -> None:
    def handle(number: int, _frame: FrameType | None) -> None:
        # The second one is meant: the default action ends this process, and with it all others.
        signal.signal(number, signal.SIG_DFL)
        supervisor.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)

"""gRPC beside HTTP, where it is wanted: nothing of it is imported elsewhere."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple

from gsop.api.http.service import Service
from gsop.errors import SetupError
from gsop.settings import Settings


class Certificate(NamedTuple):
    """A certificate chain and its private key, both PEM."""

    chain: bytes
    key: bytes


class GrpcBeside:
    """What a front serves over gRPC, as its settings have it.

    Made before the front is caged: the certificate cannot be read afterwards.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_wanted = settings.grpc_port is not None
        self._certificate = _read_certificate(settings) if self._is_wanted else None

    def serving(self, service: Service) -> AbstractAsyncContextManager[object]:
        """Serve as long as the block runs.

        Raises:
            SetupError: if gRPC is not installed, or the port is not to be had.
        """
        if not self._is_wanted:
            return nullcontext()
        try:
            from gsop.api.oip.grpc_server import serving
        except ImportError as error:
            raise SetupError(
                "GSOP_GRPC_PORT needs the extra grpc: pip install '.[grpc]', or unset it"
            ) from error
        return serving(service, self._certificate)


def _read_certificate(settings: Settings) -> Certificate | None:
    """The service's, if it has one; raises OSError if it cannot be read."""
    if settings.tls_certfile is None:
        return None
    key = settings.tls_keyfile or settings.tls_certfile
    return Certificate(settings.tls_certfile.read_bytes(), key.read_bytes())

"""A front's gRPC server: the port, the connections, the standard services, the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from gsop.api.http.health import unreadiness
from gsop.api.http.routes import GRPC_SERVICE
from gsop.api.http.service import Service
from gsop.api.oip import inference_pb2 as pb
from gsop.api.oip.grpc_beside import Certificate
from gsop.api.oip.grpc_calls import Calls
from gsop.errors import SetupError
from gsop.settings import Settings

LOOK_SECONDS = 0.5
"""How often the health service's answer is brought up to date."""

STREAMS = 128
"""Calls of one connection at once."""

_NO_COMPRESSION = 0b1
"""Of the algorithms, none but the identity: what a message inflates to cannot be bounded."""


class GrpcServer:
    """What a front serves over gRPC.

    Args:
        service: the front's.
        certificate: for TLS; ``None``: without.
    """

    def __init__(self, service: Service, certificate: Certificate | None) -> None:
        settings = service.settings
        self._service = service
        self._server = grpc.aio.server(
            options=_options(settings), maximum_concurrent_rpcs=2 * service.engines.capacity + 16
        )
        self._calls = Calls(service)
        self._server.add_generic_rpc_handlers((self._calls.handler(),))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        pb.DESCRIPTOR.pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
        names = (GRPC_SERVICE, HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=pb.DESCRIPTOR.pool)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        try:
            if certificate is None:
                self._server.add_insecure_port(address)
            else:
                pairs = [(certificate.key, certificate.chain)]
                self._server.add_secure_port(address, grpc.ssl_server_credentials(pairs))
        except RuntimeError as error:
            raise SetupError(
                f"cannot listen on {address} for gRPC: choose another GSOP_GRPC_PORT"
            ) from error

    async def serve(self) -> None:
        """Take calls, and tell how the service is."""
        await self._server.start()
        while True:
            ready = unreadiness(self._service) is None
            status = health_pb2.HealthCheckResponse.ServingStatus
            told = status.Value("SERVING" if ready else "NOT_SERVING")
            for name in ("", GRPC_SERVICE):
                await self._health.set(name, told)
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        """Take no new call, and return when those that are there are answered."""
        seconds = self._service.settings.drain_seconds
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self._server.stop(seconds))
        await asyncio.sleep(0)  # from now on nobody new gets in
        if self._calls.under_way:
            await asyncio.wait(self._calls.under_way, timeout=seconds)
        await self._server.stop(None)  # whoever only watches would hold it up
        await stopping


@asynccontextmanager
async def serving(service: Service, certificate: Certificate | None) -> AsyncIterator[GrpcServer]:
    """Serve as long as the block runs, and answer at its end what is under way.

    Raises:
        SetupError: if the port is not to be had.
    """
    server = GrpcServer(service, certificate)
    task = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await server.stop()


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),  # the fronts share the port
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]

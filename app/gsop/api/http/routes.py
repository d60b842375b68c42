"""Every call's path, declared once: routes are made of these, and counted by them.

Imports next to nothing, so that whoever makes room for the counters need not load a web framework.
"""

import re

PREDICT = "/predict"
ATTENTION = "/attention"
ATTENTION_OF = "/attention/{id}"
MODELS = "/models"
MODEL = "/models/{name}"
LOAD = "/models/{name}/versions/{version}/load"
UNLOAD = "/models/{name}/versions/{version}/unload"
TRAFFIC = "/models/{name}/traffic"
PROMOTE = "/models/{name}/promote"
ROLLBACK = "/models/{name}/rollback"
COMPARISON = "/models/{name}/comparison"
DRIFT = "/models/{name}/drift"
HEALTHZ = "/healthz"
READYZ = "/readyz"
METRICS = "/metrics"
STATUS = "/status"
PREPROCESS = "/preprocess"
INSPECT = "/inspect"

V2 = "/v2"
V2_LIVE = "/v2/health/live"
V2_READY = "/v2/health/ready"
V2_ALL_STATISTICS = "/v2/models/stats"
V2_MODEL = "/v2/models/{name}"
V2_VERSION = "/v2/models/{name}/versions/{version}"
V2_OF_MODEL = ("", "/ready", "/config", "/stats", "/infer")
"""What follows :data:`V2_MODEL` and :data:`V2_VERSION`."""
V2_INDEX = "/v2/repository/index"
V2_LOAD = "/v2/repository/models/{name}/load"
V2_UNLOAD = "/v2/repository/models/{name}/unload"

GRPC_SERVICE = "inference.GRPCInferenceService"
GRPC_CALLS = (
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"),
    *("ModelConfig", "ModelStatistics"),
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
)
"""Of the service, by name."""


def grpc_route(call: str) -> str:
    """The path of a call over gRPC."""
    return f"/{GRPC_SERVICE}/{call}"


ROUTES = (
    *(PREDICT, ATTENTION, ATTENTION_OF, MODELS, MODEL),
    *(LOAD, UNLOAD, TRAFFIC, PROMOTE, ROLLBACK, COMPARISON, DRIFT),
    *(HEALTHZ, READYZ, METRICS, STATUS, PREPROCESS, INSPECT),
    *(V2, V2_LIVE, V2_READY, V2_ALL_STATISTICS, V2_INDEX, V2_LOAD, V2_UNLOAD),
    *(of + what for of in (V2_MODEL, V2_VERSION) for what in V2_OF_MODEL),
    *map(grpc_route, GRPC_CALLS),
)
"""Those that are counted by name; the application refuses to have others. What is no call, such as
the documents, counts as ``other``."""

_PATTERNS = [
    (route, re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)))) for route in ROUTES
]


def route_of(path: str) -> str | None:
    """The call that a path is of, also where the request never came to it."""
    return next((route for route, pattern in _PATTERNS if pattern.fullmatch(path)), None)

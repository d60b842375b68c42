"""Every call's path, declared once: routes are made of these, and counted by them.

Imports nothing, so that whoever makes room for the counters need not load a web framework.
"""

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

ROUTES = (
    *(PREDICT, ATTENTION, ATTENTION_OF, MODELS, MODEL),
    *(LOAD, UNLOAD, TRAFFIC, PROMOTE, ROLLBACK, COMPARISON, DRIFT),
    *(HEALTHZ, READYZ, METRICS, STATUS, PREPROCESS, INSPECT),
)
"""Those that are counted by name; the application refuses to have others. What is no call, such as
the documents, counts as ``other``."""

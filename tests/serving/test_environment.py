"""What of the operator's environment the service's processes are given."""

from gsop.serving.supervisor import for_engines, for_fronts

OPERATORS = {
    "PATH": "/usr/bin",
    "LANG": "C.UTF-8",
    "SSL_CERT_FILE": "/etc/ssl/cert.pem",
    "GSOP_API_KEYS": "shop:predict:0123",
    "GSOP_PORT": "8000",
    "AWS_SECRET_ACCESS_KEY": "a",
    "AWS_SESSION_TOKEN": "b",
    "DB_PASSWORD": "c",
    "SERVICE_API_KEY": "d",
    "google_credentials": "e",
}


def test_fronts_and_decoders_get_no_secret_and_no_setting() -> None:
    given = for_fronts(OPERATORS)
    assert given.keys() & OPERATORS.keys() == {"PATH", "LANG", "SSL_CERT_FILE"}


def test_engines_get_settings_but_no_keys() -> None:
    """What reads a store elsewhere may need the operator's other secrets."""
    given = for_engines(OPERATORS)
    assert OPERATORS.keys() - given.keys() == {"GSOP_API_KEYS"}


def test_numpy_computes_on_one_thread_in_every_process() -> None:
    """A thread a core of each front is more than a container may start."""
    for given in (for_fronts(OPERATORS), for_engines(OPERATORS)):
        assert given["OPENBLAS_NUM_THREADS"] == "1"

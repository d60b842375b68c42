import os
from pathlib import Path

import pytest

from gsop.errors import ConfigError
from gsop.settings import Settings, unknown_variables


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GSOP_"):
            monkeypatch.delenv(name)


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSOP_PORT", "9000")
    monkeypatch.setenv("GSOP_MODELS", "digits, other/2")
    monkeypatch.setenv("GSOP_DEVICE", "cuda:0,cuda:1")
    settings = Settings.load()
    assert settings.port == 9000
    assert settings.models == ("digits", "other/2")
    assert settings.devices == ("cuda:0", "cuda:1")


def test_overrides_win_and_none_is_no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSOP_PORT", "9000")
    assert Settings.load(port=1234).port == 1234
    assert Settings.load(port=None).port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("SLOTS", "0"),
        ("PRECISION", "float8"),
        ("MODELS", " , "),
        ("MODELS", "a,a"),
        ("DRAIN_SECONDS", "-1"),
        ("KEEP_ALIVE_SECONDS", "0"),
    ],
)
def test_wrong_values_name_their_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"GSOP_{name}", value)
    with pytest.raises(ConfigError, match=f"GSOP_{name}"):
        Settings.load()


@pytest.mark.parametrize("names", ["cuda:0,cuda:1", "GPU-8f0c-11", "MIG-8f0c/1/0", "cpu, cpu"])
def test_devices_are_named_by_number_or_uuid(names: str) -> None:
    assert Settings.load(device=names).devices == tuple(n.strip() for n in names.split(","))


@pytest.mark.parametrize("names", ["toaster", "cuda:", "cuda:x", "", ",", "auto,cuda:1", "gpu-0"])
def test_what_names_no_device_is_refused(names: str) -> None:
    with pytest.raises(ConfigError, match="GSOP_DEVICE"):
        Settings.load(device=names)


def test_fewer_slots_than_fronts_contradict() -> None:
    with pytest.raises(ConfigError, match="GSOP_SLOTS"):
        Settings.load(slots=2, fronts=4)


@pytest.mark.parametrize(
    ("proxy", "idle_seconds"),
    [
        ("nginx", 60),
        ("Amazon's application load balancer", 60),
        ("cloudflared, Traefik and others by Go's transport", 90),
        ("Caddy", 120),
        ("Oracle's load balancer", 300),
        ("Google's load balancers", 600),
        ("Cloudflare", 900),
        ("Envoy", 3600),
    ],
)
def test_a_connection_is_kept_longer_than_a_proxy_keeps_it(proxy: str, idle_seconds: int) -> None:
    assert Settings.load().keep_alive_seconds > idle_seconds, proxy


def test_survive_json() -> None:
    settings = Settings.load(models="a/1,b", port=1)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(("processors", "fronts", "decoders"), [(1, 1, 2), (2, 1, 3), (16, 8, 3)])
def test_a_front_has_a_decoder_more_than_processors(
    monkeypatch: pytest.MonkeyPatch, processors: int, fronts: int, decoders: int
) -> None:
    monkeypatch.setattr("gsop.settings.cpu_count", lambda: processors)
    settings = Settings.load()
    assert (settings.front_count, settings.decoder_count) == (fronts, decoders)
    assert Settings.load(decoders=1).decoder_count == 1


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/srv/caches")
    assert Settings.load().cache_folder == Path("/srv/caches/gsop")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert Settings.load().cache_folder == Path("/home/somebody/.cache/gsop")
    monkeypatch.setenv("GSOP_CACHE", "elsewhere")
    assert Settings.load().cache_folder == Path("elsewhere")
    monkeypatch.setenv("GSOP_CACHE", "")
    assert Settings.load().cache_folder is None


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert Settings.load().cache_folder is None


def test_unknown_variables_are_told_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSOP_MODLES", "photo")
    monkeypatch.setenv("GSOP_SERVICE_HOST", "10.0.0.1")  # Kubernetes' own
    monkeypatch.setenv("GSOP_CLIENT_KEY", "gsop_x")
    monkeypatch.setenv("GSOP_PORT", "9000")
    assert unknown_variables() == [
        "GSOP_MODLES is no setting, and ignored; did you mean GSOP_MODELS?"
    ]


@pytest.mark.parametrize("path", ["gsop", "/gsop/", "/a b", "/a?b"])
def test_a_prefix_begins_with_a_slash_and_ends_without(path: str) -> None:
    with pytest.raises(ConfigError, match="GSOP_ROOT_PATH"):
        Settings.load(root_path=path)
    assert Settings.load(root_path="/team/gsop").root_path == "/team/gsop"


def test_a_path_that_is_no_utf8_is_named() -> None:
    with pytest.raises(ConfigError, match=r"GSOP_MODEL_STORE: caf\\xe9 is no UTF-8"):
        Settings.load(model_store=os.fsdecode(b"caf\xe9"))


def test_an_address_in_place_of_the_store_is_a_remote_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GSOP_MODEL_STORE", "s3://bucket/models#sha256=00")
    monkeypatch.setenv("GSOP_CACHE", str(tmp_path))
    settings = Settings.load(follow=True)
    assert settings.remote_store == "s3://bucket/models#sha256=00"
    assert settings.model_store.parent == tmp_path / "models"
    assert Settings.load(remote_store="gs://a", model_store="here").model_store == Path("here")
    with pytest.raises(ConfigError, match="name the folder where its models are kept"):
        Settings.load(cache="")

"""The commands of ``gsop models`` that change a service which runs."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from gsop.environment import client_key
from gsop.errors import ConfigError, GSoPError, error_of

LOOK_SECONDS = 0.5


class Answer(NamedTuple):
    """What a service answered.

    Attributes:
        content: its JSON.
        etag: the tag of what it tells, if it has one.
    """

    content: dict[str, Any]
    etag: str | None


class Live:
    """A service that runs.

    Args:
        url: where, as ``http://127.0.0.1:8000``.
    """

    def __init__(self, url: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"--url {url}: begin with http:// or https://")
        self._url = url.rstrip("/")

    def get(self, path: str) -> Answer:
        """Ask for something."""
        return self.call("GET", path)

    def call(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        etag: str | None = None,
    ) -> Answer:
        """Make a call.

        Raises:
            GSoPError: what the service answered, or that it cannot be reached.
        """
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if etag is not None:
            headers["If-Match"] = etag
        data = None if content is None else json.dumps(content).encode()
        body, tag = self._send(method, path, data, headers)
        try:
            return Answer(json.loads(body), tag)
        except ValueError as error:
            raise self._silent(error) from error

    def picture(self, path: str) -> bytes:
        """Ask for a PNG; raises as :meth:`call`."""
        return self._send("GET", path, None, {"Accept": "image/png"})[0]

    def _send(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[bytes, str | None]:
        if (key := client_key()) is not None:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(  # noqa: S310  # the scheme was looked at
            self._url + path, data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310
                return response.read(), response.headers["ETag"]
        except urllib.error.HTTPError as error:
            raise _problem(error) from None
        except (OSError, ValueError) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> ConfigError:
        reason = getattr(error, "reason", error)
        return ConfigError(
            f"no service answers at {self._url} ({reason}): start it, or say where with --url"
        )


def load(url: str, *, reference: str, policy: str, sha256: str | None) -> int:
    """Load a version of the store that the service reads."""
    live, (name, version) = Live(url), _parts(reference)
    content = {"policy": policy} | ({"sha256": sha256} if sha256 else {})
    with _progress(live, name, version, f"loading {reference}"):
        now = live.call("POST", _path(name, version, "load"), content).content
    took = f" in {now['seconds']:.1f} s" if now["seconds"] is not None else ""
    memory = now["engines_memory_bytes"] / 2**20
    print(f"{reference} is {now['state']}{took}; the engines take {memory:.0f} MiB")
    return 0


def unload(url: str, *, reference: str, force: bool) -> int:
    """Unload a version."""
    live, (name, version) = Live(url), _parts(reference)
    with _progress(live, name, version, f"unloading {reference}"):
        path = _path(name, version, "unload")
        now = live.call("POST", f"{path}?force={str(force).lower()}").content
    print(f"{reference} is {now['state']}")
    return 0


def traffic(url: str, *, name: str, shares: Mapping[str, Any], clear: tuple[str, ...]) -> int:
    """Show how a model's requests are spread, or change it."""
    live = Live(url)
    path = f"/models/{urllib.parse.quote(name)}"
    model = live.get(path)
    if model.content["traffic"] is None:
        raise ConfigError(f"no version of {name} is loaded: `gsop models load {name}/VERSION`")
    if shares or clear:
        wanted = {**model.content["traffic"], **shares, **dict.fromkeys(clear)}
        if wanted["canary"] is None:
            wanted["percent"] = 0
        live.call("PUT", f"{path}/traffic", wanted, model.etag)
        model = live.get(path)
    _show(model.content)
    return 0


def promote(url: str, *, name: str) -> int:
    """Make the canary the stable version."""
    return _go(url, name, "promote")


def rollback(url: str, *, name: str) -> int:
    """Take the canary's share, or go back to the stable version before."""
    return _go(url, name, "rollback")


def compare_live(url: str, *, name: str) -> int:
    """The stable version beside its canary and its shadow."""
    live, path = Live(url), f"/models/{urllib.parse.quote(name)}"
    shares = live.get(path).content["traffic"] or {}
    if shares.get("canary") is None and shares.get("shadow") is None:
        raise ConfigError(f"{name} has neither a canary nor a shadow: `gsop models traffic {name}`")
    for _ in range(10):
        if reports := live.get(f"{path}/comparison").content["comparisons"]:
            break
        time.sleep(0.5)  # the service looks every second
    for report in reports:
        _show_comparison(report)
    return 0


def drift(url: str, *, reference: str, picture: Path | None) -> int:
    """How far a version's gates are from its reference."""
    live, (name, _, version) = Live(url), reference.partition("/")
    path = f"/models/{urllib.parse.quote(name, safe='')}/drift"
    if version:
        path += f"?version={urllib.parse.quote(version)}"
    _show_drift(live.get(path).content)
    if picture is not None:
        try:
            picture.write_bytes(live.picture(path))
        except OSError as error:
            raise ConfigError(f"{picture} cannot be written: {error.strerror}") from error
        print(f"wrote {picture}")
    return 0


def _show_drift(seen: Mapping[str, Any]) -> None:
    name = "{name}/{version}".format(**seen["model"])
    reference, window, learning = seen["reference"], seen["window"], seen["learning"]
    if reference is None:
        told = "has no reference, and learns none"
        if learning is not None:
            told = f"learns a reference: {learning['images']} of {learning['wanted']} images"
        print(f"{name} {told}")
        return
    print(f"{name}: reference {reference['kind']}, {reference['what']}, {reference['made']}")
    if window is None:
        print("  no image has been compared with it yet")
        return
    score = "not judged yet" if seen["score"] is None else f"{seen['score']:.2f}"
    print(f"  drift {score} (above 1 the images have changed)")
    print(
        f"  the {'last' if window['complete'] else 'first'} {window['images']} images: "
        f"{window['score']:.2f}, {window['repeats']:.1f} of them worth one"
    )
    for one in seen["largest"][:5]:
        place = ", ".join(map(str, one["place"]))
        print(
            f"  {one['block']:<10} {one['kind']} {place:<6} {one['reference']:.3f} -> "
            f"{one['live']:.3f}, {one['evidence']:+.2f} of the limit"
        )


def _go(url: str, name: str, way: str) -> int:
    live, path = Live(url), f"/models/{urllib.parse.quote(name)}"
    live.call("POST", f"{path}/{way}")
    _show(live.get(path).content)
    return 0


def _show(model: Mapping[str, Any]) -> None:
    traffic, name = model["traffic"], model["name"]
    line = f"{name}/{traffic['stable']} stable"
    if traffic["canary"] is not None:
        line += f", {traffic['canary']} canary with {traffic['percent']:g} %"
        if model["canary_percent"] is not None:
            line += f" (has had {model['canary_percent']:g} %)"
        if traffic["sticky"]:
            line += f" by {traffic['sticky']}"
    if traffic["shadow"] is not None:
        line += f", {traffic['shadow']} shadow"
    print(line if model["kept"] else f"{line}; not kept beyond the service (GSOP_STATE)")


def _show_comparison(report: Mapping[str, Any]) -> None:
    stable, other = report["stable"], report["other"]
    print(f"{other['version']} ({report['role']}) beside {stable['version']} (stable)")
    rows = (
        ("images answered", f"{stable['answered']}", f"{other['answered']}"),
        ("failed", *(_estimate(side["failure_rate"], percent=True) for side in (stable, other))),
        ("mean time, ms", *(_ms(side["seconds"]) for side in (stable, other))),
        ("95 of 100 on the device, ms", *(_ms(side["p95_seconds"]) for side in (stable, other))),
        ("engines that died", f"{stable['engine_deaths']}", f"{other['engine_deaths']}"),
    )
    for name, one, two in rows:
        print(f"  {name:<28}{one:>26}{two:>26}")
    print(f"  on {report['pairs']} images that both have answered:")
    for name, estimate, percent in (
        ("the same class", report["agreement"], True),
        ("mean change of p", report["probability_change"], False),
        ("mean distance of the gates", report["gate_distance"], False),
    ):
        print(f"  {name:<28}{_estimate(estimate, percent=percent):>26}")
    if report["verdict"]:
        print(f"  worse: {report['verdict']}")


def _estimate(estimate: Mapping[str, float] | None, *, percent: bool) -> str:
    if estimate is None:
        return "-"
    scale, unit = (100, " %") if percent else (1, "")
    value, low, high = (estimate[key] * scale for key in ("value", "low", "high"))
    return f"{value:.3g}{unit} ({low:.3g} to {high:.3g})"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.2f}"


@contextmanager
def _progress(live: Live, name: str, version: str, what: str) -> Iterator[None]:
    """A line on the standard error that tells where the version is, while the block runs."""
    console = Console(stderr=True)
    ended = threading.Event()
    with console.status(escape(what)) as status:

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                try:
                    model = live.get(f"/models/{urllib.parse.quote(name)}").content
                except GSoPError:
                    continue
                for one in model["versions"]:
                    if one["version"] == version and one["state"] is not None:
                        status.update(f"{escape(what)}: {one['state']}")

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _problem(error: urllib.error.HTTPError) -> GSoPError:
    try:
        problem = json.load(error)
        kind, detail = error_of(problem["code"]), problem["detail"]
    except (ValueError, KeyError, TypeError):
        return ConfigError(f"the service answers {error.code} {error.reason}")
    return kind(detail)


def _parts(reference: str) -> tuple[str, str]:
    name, _, version = reference.partition("/")
    if not name or not version:
        raise ConfigError(f"{reference}: say NAME/VERSION")
    return name, version


def _path(name: str, version: str, verb: str) -> str:
    quoted = (urllib.parse.quote(part, safe="") for part in (name, version))
    return "/models/{}/versions/{}/{}".format(*quoted, verb)

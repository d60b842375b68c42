"""How an operator changes the shares of a model's versions: by hand, promoted, or rolled back."""

from gsop.errors import Conflict, PreconditionFailed, UnknownModel
from gsop.serving.book import VersionBook
from gsop.serving.traffic import Shares, Traffic


class ShareControl:
    """Changes shares. No generation changes with them: they are in force at the next request."""

    def __init__(self, book: VersionBook) -> None:
        self._book = book
        self._previous: dict[str, str] = {}

    def set(
        self,
        name: str,
        traffic: Traffic,
        *,
        who: str,
        what: str | None = None,
        revision: int | None = None,
    ) -> Shares:
        """Spread a model's requests in another way.

        Args:
            name: of the model.
            traffic: the shares.
            who: asks for it.
            what: is told among the changes.
            revision: what the caller thinks that it changes; ``None``: whatever there is.

        Raises:
            UnknownModel: if none of its versions is loaded.
            PreconditionFailed: if somebody else has changed it meanwhile.
            Conflict: if a version that is named is not loaded.
        """
        with self._book.lock:
            before = self._book.shares(name)
            if revision not in (None, before.revision):
                raise PreconditionFailed(
                    f"the traffic of {name} was changed meanwhile (to revision {before.revision}): "
                    f"GET /models/{name} has its present state and tag"
                )
            for version in traffic.versions:
                if (name, version) not in self._book.manifests:
                    raise Conflict(
                        f"{name}/{version} is not loaded: POST "
                        f"/models/{name}/versions/{version}/load first"
                    )
            if traffic.stable != before.traffic.stable:
                self._previous[name] = before.traffic.stable
            shares = self._book.share(name, traffic)
            self._book.changed(name, who, what or f"traffic: {traffic}")
            return shares

    def promote(self, name: str, *, who: str, revision: int | None = None) -> Shares:
        """Make the canary the stable version; the one before stays loaded.

        Raises:
            Conflict: if there is no canary.
            UnknownModel, PreconditionFailed: as :meth:`set`.
        """
        with self._book.lock:
            traffic = self._book.shares(name).traffic
            if traffic.canary is None:
                raise Conflict(f"{name} has no canary: give a version a share of its traffic first")
            promoted = traffic.changed(stable=traffic.canary, canary=None, percent=0)
            what = f"{traffic.canary} promoted; {traffic.stable} was stable before"
            return self.set(name, promoted, who=who, what=what, revision=revision)

    def rollback(
        self, name: str, *, who: str, reason: str = "asked for", revision: int | None = None
    ) -> Shares:
        """Take the canary's share back; without a canary, the stable version before this one.

        Raises:
            Conflict: if there is neither a canary with a share nor an earlier version.
            UnknownModel, PreconditionFailed: as :meth:`set`.
        """
        with self._book.lock:
            traffic, before = self._book.shares(name).traffic, self._previous.get(name)
            if traffic.canary is not None and traffic.percent:
                back = traffic.changed(percent=0)
                what = f"{traffic.canary} rolled back from {traffic.percent:g} %: {reason}"
            elif before is not None and before != traffic.stable:
                shadow = None if traffic.shadow == before else traffic.shadow
                back = traffic.changed(stable=before, canary=None, percent=0, shadow=shadow)
                what = f"{traffic.stable} rolled back to {before}: {reason}"
            else:
                raise Conflict(f"{name} has nothing to go back to: no canary, no earlier version")
            return self.set(name, back, who=who, what=what, revision=revision)

    def free(self, name: str, version: str, *, who: str, force: bool) -> None:
        """See that a version that is to be unloaded gets no requests.

        Args:
            name: of the model.
            version: of it.
            who: asks for it.
            force: take the share of a canary or a shadow.

        Raises:
            Conflict: if it gets some, and they cannot be taken from it.
        """
        with self._book.lock:
            try:
                traffic = self._book.shares(name).traffic
            except UnknownModel:
                return
            if version == traffic.stable:
                self._free_stable(name, version, who)
            elif version in traffic.versions:
                if not force:
                    raise Conflict(
                        f"{name}/{version} gets requests: take its share first, or unload it with "
                        "force=true"
                    )
                without = (
                    traffic.changed(shadow=None)
                    if version == traffic.shadow
                    else traffic.changed(canary=None, percent=0)
                )
                self.set(name, without, who=who, what=f"{version} taken out of the traffic")

    def _free_stable(self, name: str, version: str, who: str) -> None:
        others = [v for n, v in self._book.manifests if n == name and v != version]
        if others:
            raise Conflict(
                f"{name}/{version} is the stable version, which gets requests: make another one "
                "stable first"
            )
        if name == next(iter(self._book.all_shares)):
            raise Conflict(
                f"{name} answers requests that name no model, and {version} is its only version: "
                "load another one first"
            )
        self._book.take_out(name)
        self._book.changed(name, who, f"{version}, its only version, is taken out")

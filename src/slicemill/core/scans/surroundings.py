"""What lies around scans: hidden folders, and folders that slicemill itself wrote."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

#: Folders of desktops, file systems and servers that hold copies of what was there; in lower case.
_HIDDEN_NAMES = frozenset(
    (
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "__macosx",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "~snapshot",
    )
)

#: A file that slicemill writes at the top of a folder, and the beginnings of what then lies beside it.
_OWN_CARDS = {
    "lake.json": ("_commits/", "slices/"),
    "scores.json": ("manifest/", "masks", "slices/"),
    "model.json": ("model.safetensors",),
}


class Surroundings:
    """Tells by its URI whether a file belongs to a scan at all.

    `roots` are the folders that were listed. Without any, only a file's name and its folder's can be hidden.
    `own` are folders that slicemill writes to, besides those that it left its card in.
    """

    def __init__(self, roots: Sequence[str], own: Sequence[str], uris: Iterable[str]) -> None:
        self._roots = sorted({root.rstrip("/") + "/" for root in roots}, key=len, reverse=True)
        homes = {home.rstrip("/") + "/" for home in own} | _homes_with_card(uris)
        # Of a home that scans lie in too, only the masks are left out.
        shared = {home for home in homes if any(root.startswith(home) for root in self._roots)}
        self._masks = tuple(f"{home}masks{end}" for home in sorted(shared) for end in ("/", "-"))
        self._homes = homes - shared
        self._kinds: dict[str, str | None] = {}
        self._folders_in_homes: dict[str, bool] = {}

    def path(self, uri: str) -> str:
        """Path of a folder below its root, or its name."""
        root = next((root for root in self._roots if uri.startswith(root)), None)
        return uri[len(root) :] if root else uri.rpartition("/")[2]

    def kind(self, uri: str) -> str | None:
        """`hidden` or `own` for a file, or a folder that ends in a slash, that no scan can have."""
        folder, _, name = uri.rstrip("/").rpartition("/")
        if uri.startswith(self._masks) or (self._homes and (uri in self._homes or self._in_home(folder))):
            return "own"
        if folder not in self._kinds:
            self._kinds[folder] = "hidden" if self._hidden_folder(folder) else None
        if self._kinds[folder] or _always_hidden(name):
            return "hidden"
        # Hadoop hides what begins with an underline, and so do we, except for a scan that is named so.
        own_name = folder.rpartition("/")[2]
        underlined = own_name.startswith("_") and self._below_root(folder)
        unfit = not name.startswith(own_name) if underlined else name.startswith("_")
        return "hidden" if unfit else None

    def _in_home(self, folder: str) -> bool:
        """Whether a folder is one that slicemill writes to, or lies in one; each is looked up once."""
        if folder not in self._folders_in_homes:
            above = folder.rpartition("/")[0]
            inside = f"{folder}/" in self._homes or (above != "" and self._in_home(above))
            self._folders_in_homes[folder] = inside
        return self._folders_in_homes[folder]

    def _hidden_folder(self, folder: str) -> bool:
        if not self._below_root(folder):
            return False
        *above, name = self.path(folder).split("/")
        return _always_hidden(name) or any(_always_hidden(part) or part.startswith("_") for part in above)

    def _below_root(self, folder: str) -> bool:
        return not self._roots or any(folder.startswith(root) for root in self._roots)


def _homes_with_card(uris: Iterable[str]) -> set[str]:
    ordered = sorted(uris)
    homes = set()
    for uri in ordered:
        folder, _, name = uri.rpartition("/")
        if any(_begins(ordered, f"{folder}/{beginning}") for beginning in _OWN_CARDS.get(name, ())):
            homes.add(f"{folder}/")
    return homes


def _begins(ordered: Sequence[str], beginning: str) -> bool:
    """Whether one of these URIs, in order, begins so; found without a look at each."""
    place = bisect.bisect_left(ordered, beginning)
    return place < len(ordered) and ordered[place].startswith(beginning)


def _always_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN_NAMES

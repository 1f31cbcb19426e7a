"""What lies around scans: hidden folders, and folders that slicemill itself wrote."""

from __future__ import annotations

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
        homes = {home.rstrip("/") + "/" for home in own} | _homes_with_card(list(uris))
        self._own = tuple(prefix for home in sorted(homes) for prefix in self._prefixes(home))
        self._kinds: dict[str, str | None] = {}

    def _prefixes(self, home: str) -> tuple[str, ...]:
        """What to leave out of a folder: all of it, or of a root that scans lie in too, only the masks."""
        if any(root.startswith(home) for root in self._roots):
            return (f"{home}masks/", f"{home}masks-")
        return (home,)

    def path(self, uri: str) -> str:
        """Path of a folder below its root, or its name."""
        root = next((root for root in self._roots if uri.startswith(root)), None)
        return uri[len(root) :] if root else uri.rpartition("/")[2]

    def kind(self, uri: str) -> str | None:
        """`hidden` or `own` for a file, or a folder that ends in a slash, that no scan can have."""
        if self._own and uri.startswith(self._own):
            return "own"
        folder, _, name = uri.rstrip("/").rpartition("/")
        if folder not in self._kinds:
            self._kinds[folder] = "hidden" if self._hidden_folder(folder) else None
        if self._kinds[folder] or _always_hidden(name):
            return "hidden"
        # Hadoop hides what begins with an underline, and so do we, except for a scan that is named so.
        own_name = folder.rpartition("/")[2]
        underlined = own_name.startswith("_") and self._below_root(folder)
        unfit = not name.startswith(own_name) if underlined else name.startswith("_")
        return "hidden" if unfit else None

    def _hidden_folder(self, folder: str) -> bool:
        if not self._below_root(folder):
            return False
        *above, name = self.path(folder).split("/")
        return _always_hidden(name) or any(_always_hidden(part) or part.startswith("_") for part in above)

    def _below_root(self, folder: str) -> bool:
        return not self._roots or any(folder.startswith(root) for root in self._roots)


def _homes_with_card(uris: Sequence[str]) -> set[str]:
    homes = set()
    for uri in uris:
        folder, _, name = uri.rpartition("/")
        if name in _OWN_CARDS:
            beside = tuple(f"{folder}/{beginning}" for beginning in _OWN_CARDS[name])
            if any(other.startswith(beside) for other in uris):
                homes.add(f"{folder}/")
    return homes


def _always_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN_NAMES

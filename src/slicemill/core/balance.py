"""Work of unequal size shared out evenly."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def balanced(largest_first: Iterable[T], size: Callable[[T], int], parts: int) -> list[list[T]]:
    """Share items out over `parts` shares of about equal size; some are empty where there are fewer items.

    Each item goes to the share with the least so far: given the largest first, no share has more than 4/3
    of the best possible (Graham 1969). Of shares with as much, the first gets it.

    >>> balanced([9, 5, 4, 2], size=int, parts=2)
    [[9, 2], [5, 4]]
    """
    shares: list[list[T]] = [[] for _ in range(parts)]
    loads = [(0, share) for share in range(parts)]
    for item in largest_first:
        load, least = loads[0]
        shares[least].append(item)
        heapq.heapreplace(loads, (load + size(item), least))
    return shares

"""What a benchmark ran on, for its last line."""

from slicemill.io.machine import describe

__all__ = ["describe"]

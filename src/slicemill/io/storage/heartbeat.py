"""The heartbeat of a lock in S3: refreshes it while its holder lives, and ends the run when that fails."""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
import time

from slicemill.io.storage import s3_client
from slicemill.io.storage.fence import STALE_SECONDS, Holder
from slicemill.types import Uri

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
#: After a refusal the next try comes sooner.
RETRY_SECONDS = 2.0
#: Refused for so long, the run ends before another may take the lock.
GIVE_UP_SECONDS = 0.75 * STALE_SECONDS


class Heartbeat(threading.Thread):
    """Refreshes a lock in a thread of its own. If that fails, `lost` says why, and the run is interrupted."""

    def __init__(self, uri: Uri, holder: Holder, tag: str) -> None:
        super().__init__(daemon=True)
        self.lost: str | None = None
        self._uri, self._holder, self._tag = uri, holder, tag
        self._ended = threading.Event()
        self._owner = threading.current_thread()

    def run(self) -> None:
        """Refresh the lock until `stop`, or until it is lost."""
        refreshed, pause = time.monotonic(), BEAT_SECONDS
        while not self._ended.wait(pause):
            start = time.monotonic()
            try:
                still_ours = self._beat()
            except OSError as error:
                pause = RETRY_SECONDS
                log.warning("the lock %s could not be refreshed: %s", self._uri, error)
                if time.monotonic() - refreshed > GIVE_UP_SECONDS:
                    return self._lose(f"no refresh for {GIVE_UP_SECONDS:.0f} s: {error}")
                continue
            if not still_ours:
                return self._lose("taken over or removed by another")
            refreshed, pause = start, BEAT_SECONDS

    def _beat(self) -> bool:
        # After a refusal the same content is written again: only the answer may have got lost.
        following = dataclasses.replace(self._holder, beat=self._holder.beat + 1)
        tag = s3_client.write_if(self._uri, following.to_json(), self._tag, hasty=True)
        if tag is None:
            return False
        self._holder, self._tag = following, tag
        return True

    def _lose(self, reason: str) -> None:
        self.lost = reason
        log.error("the lock %s is lost: %s", self._uri, reason)
        if self._owner is threading.main_thread() and not self._ended.is_set():
            # A signal also ends a wait for Spark, which an exception alone would not.
            signal.pthread_kill(self._owner.ident or 0, signal.SIGINT)

    def stop(self) -> None:
        """End the thread, and remove the lock if it is still this run's."""
        self._ended.set()
        self.join()
        if self.lost:
            return
        try:
            if not s3_client.remove_if(self._uri, self._tag):
                self.lost = "taken over or removed by another"
        except OSError as error:
            log.warning("the lock %s stays for a minute: it could not be removed: %s", self._uri, error)

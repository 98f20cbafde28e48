"""The certificates in force, which follow their files."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable

from tilestream.file_stamp import file_stamp
from tilestream.tls.files import CertificateError, CertificateFiles, Certificates, read_certificates

log = logging.getLogger(__name__)

_RETRY = 60.0  # seconds after which files that were refused are looked at again: one may have become valid

_Stamp = tuple[tuple[int, int, int, int] | None, ...]


def utc_now() -> datetime.datetime:
    """The time that certificates are checked against."""
    return datetime.datetime.now(datetime.UTC)


class CertificateStore:
    """Reads the files again when they have changed.

    Files that cannot be used, be they half written or not of one another, change nothing: the certificates
    before stay in force, and the log says why. Raises :class:`CertificateError` if there were none before.
    """

    def __init__(
        self,
        files: CertificateFiles,
        now: Callable[[], datetime.datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files, self._now, self._clock = files, now, clock
        self._lock = threading.Lock()
        self._seen = _stamp(files)  # before they are read: what is written meanwhile is read again
        self._retry_at: float | None = None
        self._current = read_certificates(files, now())

    def latest(self) -> Certificates:
        """Those to show now, another object each time that they have changed; from any thread.

        It looks at the files, which is quick.
        """
        with self._lock:
            stamp = _stamp(self.files)
            changed = stamp != self._seen
            if changed or (self._retry_at is not None and self._clock() >= self._retry_at):
                self._seen = stamp
                self._read_again(tell=changed)
            return self._current

    def _read_again(self, *, tell: bool) -> None:
        try:
            read = read_certificates(self.files, self._now())
        except CertificateError as error:
            self._retry_at = self._clock() + _RETRY
            if tell:
                log.error("changed certificates are not used, those before stay in force: %s", error)
            return
        self._retry_at = None
        if read != self._current:
            self._current = read
            log.info("certificates were read again", extra={"expires": f"{read.expires:%Y-%m-%dT%H:%M:%SZ}"})


def _stamp(files: CertificateFiles) -> _Stamp:
    return tuple(file_stamp(path) for path in files.paths)

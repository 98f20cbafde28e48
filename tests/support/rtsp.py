"""Cameras: RTSP (RFC 2326) over TCP, and motion JPEG over HTTP; one client at a time."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from support.video import AccessUnit

_CLOCK = 90_000  # of RTP video
_MOST = 1200  # bytes of a NAL unit in one packet
_RATE = 25


@contextlib.contextmanager
def _served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Connection after connection; the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


@contextlib.contextmanager
def rtsp_camera(units: list[AccessUnit], *, hangs_up_after: int) -> Iterator[str]:
    """The address of a camera that sends H.264 from the start, and hangs up after so many units."""
    with _served(lambda connection: _RtspSession(connection, units[:hangs_up_after]).serve()) as port:
        yield f"rtsp://127.0.0.1:{port}/front"


@contextlib.contextmanager
def mjpeg_camera(jpegs: list[bytes]) -> Iterator[str]:
    """The address of a camera that sends these over HTTP and hangs up."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        connection.sendall(head)
        for jpeg in jpegs:
            part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            connection.sendall(part + jpeg + b"\r\n")

    with _served(serve) as port:
        yield f"http://127.0.0.1:{port}/video"


class _RtspSession:
    def __init__(self, connection: socket.socket, units: list[AccessUnit]) -> None:
        self._connection = connection
        self._units = units
        self._sequence = 0

    def serve(self) -> None:
        text = self._connection.makefile("r", newline="\r\n")
        while line := text.readline():
            method = line.split(" ", 1)[0]
            headers = {}
            while (header := text.readline().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body, more = self._answer(method)
            answer = [f"CSeq: {headers['cseq']}", *more, *([f"Content-Length: {len(body)}"] if body else [])]
            self._connection.sendall(("\r\n".join(["RTSP/1.0 200 OK", *answer, "", ""]) + body).encode())
            if method == "PLAY":
                for number, unit in enumerate(self._units):
                    self._send_unit(number, unit.data)
                    time.sleep(0.002)
                return
            if method == "TEARDOWN":
                return

    def _answer(self, method: str) -> tuple[str, list[str]]:
        if method == "DESCRIBE":
            nals = [nal for nal in self._units[0].data.split(b"\0\0\1") if nal]
            sets = [base64.b64encode(nal.rstrip(b"\0")).decode() for nal in nals if nal[0] & 31 in (7, 8)]
            lines = (
                "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=front", "t=0 0", "m=video 0 RTP/AVP 96",
                f"a=rtpmap:96 H264/{_CLOCK}", "a=control:track",
                f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={','.join(sets)}", "",
            )  # fmt: skip
            return "\r\n".join(lines), ["Content-Type: application/sdp"]
        if method == "SETUP":
            return "", ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        return "", ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", "Session: 1"]

    def _send_unit(self, number: int, data: bytes) -> None:
        nals = [nal.rstrip(b"\0") for nal in data.split(b"\0\0\1") if nal.strip(b"\0")]
        nals = [nal for nal in nals if nal[0] & 31 not in (7, 8)]  # those were told before
        for index, nal in enumerate(nals):
            payloads = [nal] if len(nal) <= _MOST else list(_fragments(nal))
            for place, payload in enumerate(payloads):
                last = index == len(nals) - 1 and place == len(payloads) - 1
                self._send(payload, number * _CLOCK // _RATE, last)

    def _send(self, payload: bytes, when: int, last: bool) -> None:
        packet = struct.pack(">BBHII", 0x80, 96 | last << 7, self._sequence & 0xFFFF, when, 1) + payload
        self._sequence += 1
        self._connection.sendall(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)


def _fragments(nal: bytes) -> Iterator[bytes]:
    """FU-A (RFC 6184)."""
    rest, first = nal[1:], True
    while rest:
        part, rest = rest[:_MOST], rest[_MOST:]
        yield bytes([nal[0] & 0xE0 | 28, first << 7 | (not rest) << 6 | nal[0] & 31]) + part
        first = False

"""Files of tokens, policies and keys, and stubs that show credentials."""

import time
from pathlib import Path

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from support.server import Running, Stream
from tilestream.access.tokens import add_token
from tilestream.v1 import segmentation_pb2 as pb


def tokens_of(path: Path, *names: str) -> list[str]:
    """A token for each name, in the file."""
    return [add_token(path, name) for name in names]


def shows(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def open_as(r: Running, token: str, channel: grpc.aio.Channel | None = None, **config) -> Stream:
    """A stream that has sent its config; its session may have been refused."""
    method = "/tilestream.v1.SegmentationService/StreamSegment"
    call = (channel or r.channel).stream_stream(
        method,
        request_serializer=pb.StreamSegmentRequest.SerializeToString,
        response_deserializer=pb.StreamSegmentResponse.FromString,
    )(metadata=shows(token) if token else ())
    stream = Stream(call)
    r.keep(stream)
    try:
        await stream.send(config=pb.SessionConfig(**config))
        response = await call.read()
    except grpc.aio.AioRpcError:
        return stream
    if response is not grpc.aio.EOF:
        stream.started = response.session_started
    return stream


class Issuer:
    """Signs JWTs with an elliptic curve's key of its own."""

    def __init__(self, key_id: str = "k1") -> None:
        self._key, self._id = ec.generate_private_key(ec.SECP256R1()), key_id

    def key_set(self) -> dict:
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self._id, "use": "sig", "alg": "ES256"}]}

    def token(self, **claims) -> str:
        usual = {"iss": "https://issuer", "aud": "tilestream", "sub": "gateway", "exp": time.time() + 600}
        return jwt.encode({**usual, **claims}, self._key, "ES256", headers={"kid": self._id})

"""Names of certificates are those that OpenSSL and gRPC write; tests/web compares with gRPC itself."""

import ssl

import pytest

from support.certificates import Authority
from tilestream.tls.subjects import subject_of


@pytest.mark.parametrize(
    ("subject", "names", "expected"),
    [
        ("CN=camera-7,O=Fleet", (), "CN=camera-7,O=Fleet"),
        ("CN=kamera-ü", (), "CN=kamera-\\C3\\BC"),
        ("1.2.840.113549.1.9.1=ops@fleet.example", (), "emailAddress=ops@fleet.example"),
        ("", ("spiffe://fleet/camera-7", "camera.example"), "URI=spiffe://fleet/camera-7"),
        ("", ("10.0.0.7", "camera.example"), "DNS=camera.example"),
        ("", ("10.0.0.7",), "IP=10.0.0.7"),
        ("", (), None),
    ],
)
def test_the_name_in_a_certificate(tmp_path, subject, names, expected):
    issued = Authority(tmp_path).issue("client", subject, names=names)
    assert subject_of(ssl.PEM_cert_to_DER_cert(issued.certificate.read_text())) == expected

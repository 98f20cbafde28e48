"""What is served is looked at before: what is wrong with files is told, with what to do."""

import datetime
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from support.certificates import EXPIRED, NOT_YET, Authority, Issued
from tilestream.tls.files import CertificateError, CertificateFiles, read_certificates

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("server")


def test_good_files_are_taken_as_they_are(authority: Authority, issued: Issued):
    read = read_certificates(CertificateFiles(issued.certificate, issued.key, authority.certificate), NOW)
    assert read.chain == issued.certificate.read_bytes()
    assert read.key == issued.key.read_bytes()
    assert read.client_ca == authority.certificate.read_bytes()
    assert NOW < read.expires < NOW + datetime.timedelta(days=31)


def refusal(*files: Path) -> str:
    with pytest.raises(CertificateError) as raised:
        read_certificates(CertificateFiles(*files), NOW)
    return str(raised.value)


def test_a_file_that_is_missing(issued: Issued, tmp_path: Path):
    absent = tmp_path / "absent.pem"
    assert (
        refusal(absent, issued.key) == f"cannot read the certificate file {absent}: No such file or directory"
    )
    assert refusal(issued.certificate, absent).startswith(f"cannot read the key file {absent}")
    text = refusal(issued.certificate, issued.key, absent)
    assert text.startswith(f"cannot read the client CA file {absent}")
    assert "Is a directory" in refusal(tmp_path, issued.key)


def test_a_file_of_another_kind(issued: Issued, tmp_path: Path):
    other = tmp_path / "other"
    for content in (
        b"",
        b"garbage",
        b"\x00\xff",
        b"-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n",
    ):
        other.write_bytes(content)
        assert "holds no certificate that can be read: it has to be PEM" in refusal(other, issued.key)
        assert "holds no private key that can be read: it has to be PEM" in refusal(issued.certificate, other)
        text = refusal(issued.certificate, issued.key, other)
        assert text.startswith(f"{other} holds no certificate that can be read")
    assert "holds no certificate" in refusal(issued.key, issued.certificate)  # the one for the other


def test_half_a_certificate(issued: Issued):
    whole = issued.certificate.read_bytes()
    issued.certificate.write_bytes(whole[: len(whole) // 2])
    assert "holds no certificate that can be read" in refusal(issued.certificate, issued.key)


def test_the_key_of_another_certificate(authority: Authority, issued: Issued):
    other = authority.issue("other")
    text = refusal(issued.certificate, other.key)
    assert text.startswith(f"{other.key} is not the key of the first certificate in {issued.certificate}")


def test_a_chain_in_the_wrong_order(authority: Authority, issued: Issued):
    chain = authority.certificate.read_bytes() + issued.certificate.read_bytes()
    issued.certificate.write_bytes(chain)
    assert "the server's own certificate comes first there" in refusal(issued.certificate, issued.key)


def test_a_key_with_a_password(issued: Issued):
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    pkcs8 = serialization.PrivateFormat.PKCS8
    issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, secret))
    assert "is encrypted; it has to be without a password" in refusal(issued.certificate, issued.key)


def test_a_certificate_that_is_not_valid_now(authority: Authority):
    old, new = authority.issue("old", days=EXPIRED), authority.issue("new", days=NOT_YET)
    assert "expired on " in refusal(old.certificate, old.key)
    assert "renew it" in refusal(old.certificate, old.key)
    assert "is not valid before " in refusal(new.certificate, new.key)
    assert "by this machine's clock it is" in refusal(new.certificate, new.key)


def test_a_client_ca_that_is_none(authority: Authority, issued: Issued):
    camera = authority.issue("camera", "CN=camera-7")
    text = refusal(issued.certificate, issued.key, camera.certificate)
    assert f"{camera.certificate} holds a certificate that is no authority's (CN=camera-7)" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(issued: Issued):
    issued.key.chmod(0)
    assert "Permission denied" in refusal(issued.certificate, issued.key)

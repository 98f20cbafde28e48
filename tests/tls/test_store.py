"""Certificates follow their files; what cannot be used changes nothing."""

import datetime
import logging
from pathlib import Path

import pytest

from support.certificates import NOT_YET, Authority, Issued, replace_file
from tilestream.tls.files import CertificateError, CertificateFiles
from tilestream.tls.store import CertificateStore


@pytest.fixture(autouse=True)
def all_lines(caplog):
    caplog.set_level(logging.INFO, logger="tilestream.tls.store")


class Renewal:
    """A store, the files it reads, and others to put there."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.served = self.authority.issue("served")
        self.other = self.authority.issue("other")
        self.seconds = 0.0
        self.now = datetime.datetime.now(datetime.UTC)
        files = CertificateFiles(self.served.certificate, self.served.key, self.authority.certificate)
        self.store = CertificateStore(files, lambda: self.now, lambda: self.seconds)

    def renew(self, issued: Issued) -> None:
        replace_file(self.served.certificate, issued.certificate.read_bytes())
        replace_file(self.served.key, issued.key.read_bytes())


@pytest.fixture
def renewal(tmp_path: Path) -> Renewal:
    return Renewal(tmp_path)


def test_files_that_cannot_be_used_are_an_error_at_the_start(tmp_path: Path):
    with pytest.raises(CertificateError, match="No such file"):
        CertificateStore(CertificateFiles(tmp_path / "a", tmp_path / "b"))


def test_nothing_is_read_while_nothing_changes(renewal: Renewal, caplog):
    first = renewal.store.latest()
    assert renewal.store.latest() is first
    replace_file(renewal.served.certificate, renewal.served.certificate.read_bytes())  # the same once more
    assert renewal.store.latest() is first
    assert not caplog.messages


def test_changed_files_are_read_again(renewal: Renewal, caplog):
    renewal.renew(renewal.other)
    latest = renewal.store.latest()
    assert latest.chain == renewal.other.certificate.read_bytes()
    assert latest.key == renewal.other.key.read_bytes()
    assert caplog.messages == ["certificates were read again"]
    other = Authority(renewal.authority.certificate.parent, "other-ca")
    replace_file(renewal.authority.certificate, other.certificate.read_bytes())
    assert renewal.store.latest().client_ca == other.certificate.read_bytes()


def test_files_written_one_after_the_other(renewal: Renewal, caplog):
    first = renewal.store.latest()
    whole = renewal.other.certificate.read_bytes()
    for written in (0, 1, len(whole) // 2, len(whole)):
        renewal.served.certificate.write_bytes(whole[:written])  # in place, as cp does
        assert renewal.store.latest() is first, written
    assert "is not the key of the first certificate" in caplog.messages[-1]
    assert all("those before stay in force" in line for line in caplog.messages)
    renewal.served.key.write_bytes(renewal.other.key.read_bytes())
    assert renewal.store.latest().chain == whole
    assert caplog.messages[-1] == "certificates were read again"


def test_a_fault_is_told_once(renewal: Renewal, caplog):
    renewal.served.key.unlink()
    for _ in range(3):
        renewal.store.latest()
    assert len(caplog.messages) == 1
    assert "cannot read the key file" in caplog.messages[0]
    renewal.seconds += 3600
    renewal.store.latest()
    assert len(caplog.messages) == 1


def test_a_certificate_that_becomes_valid_is_taken_without_being_touched(renewal: Renewal, caplog):
    first = renewal.store.latest()
    early = renewal.authority.issue("early", days=NOT_YET)
    renewal.renew(early)
    assert renewal.store.latest() is first
    assert "is not valid before" in caplog.messages[0]
    renewal.now += datetime.timedelta(days=2)
    assert renewal.store.latest() is first, "files that were refused are not read for every connection"
    renewal.seconds += 60
    assert renewal.store.latest().chain == early.certificate.read_bytes()


def test_links_are_followed(tmp_path: Path):
    """As Kubernetes changes secrets: the link to their folder is replaced."""
    authority = Authority(tmp_path)
    for number in ("1", "2"):
        folder, issued = tmp_path / number, authority.issue(f"server{number}")
        folder.mkdir()
        issued.certificate.rename(folder / "tls.crt")
        issued.key.rename(folder / "tls.key")
    data = tmp_path / "data"
    data.symlink_to("1")
    store = CertificateStore(CertificateFiles(data / "tls.crt", data / "tls.key"))
    first = store.latest()
    new = tmp_path / "new"
    new.symlink_to("2")
    new.replace(data)
    assert store.latest().chain == (tmp_path / "2" / "tls.crt").read_bytes() != first.chain

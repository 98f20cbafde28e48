"""The name in a certificate that a peer of Python's own servers showed, as gRPC writes it."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

# What OpenSSL calls attributes that the library writes as numbers.
_NAMES = {
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
    NameOID.INITIALS: "initials",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.STREET_ADDRESS: "street",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
}


def subject_of(certificate: bytes) -> str | None:
    """The subject of a certificate (DER), ``CN=camera-7,O=Fleet``; its first other name where that is empty.

    The same as :func:`tilestream.api.certificates.certificate_subject` says of it. None: it has no name.
    """
    parsed = x509.load_der_x509_certificate(certificate)
    return _escaped(_written(parsed.subject)) or _other_name(parsed)


def _written(subject: x509.Name) -> str:
    """From the last part to the first, and so within parts of several attributes, unlike the library does."""
    parts = (reversed(list(part)) for part in reversed(subject.rdns))
    return ",".join("+".join(attribute.rfc4514_string(_NAMES) for attribute in part) for part in parts)


def _escaped(name: str) -> str:
    """What is not ASCII as OpenSSL writes it: a backslash and two digits for each byte."""
    return "".join(
        letter if letter.isascii() else "".join(f"\\{byte:02X}" for byte in letter.encode())
        for letter in name
    )


def _other_name(certificate: x509.Certificate) -> str | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    kinds = (
        ("URI", x509.UniformResourceIdentifier),
        ("DNS", x509.DNSName),
        ("email", x509.RFC822Name),
        ("IP", x509.IPAddress),
    )
    for prefix, kind in kinds:
        for name in names:
            if isinstance(name, kind):
                return f"{prefix}={name.value}"
    return None

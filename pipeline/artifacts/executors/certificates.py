"""Certificates for TLS between this program, a scheduler and its workers."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed.security import Security

CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
_ROLES = ("client", "scheduler", "worker")


def security_of(folder: Path | None, address: str) -> Security | None:
    """What a client of ``address`` encrypts with: the files of ``folder``, else what dask's own
    configuration names (``DASK_DISTRIBUTED__COMM__TLS__...``); None for an address without TLS.

    Raises ReidpipeError where there is none for a ``tls://`` address, where files are missing or
    no certificates, and for a folder beside an address that does not encrypt.
    """
    encrypted = address.startswith("tls://")
    if folder is not None and not encrypted:
        raise ReidpipeError(
            f"found --tls {folder} for {address}, which does not encrypt; expected a tls:// "
            f"address; type --scheduler tls{address[3:]}, and start the scheduler with TLS too"
        )
    security, context = _read(folder)
    if security.require_encryption and not encrypted:
        raise ReidpipeError(
            f"found {address}, which does not encrypt, and dask set to require it "
            "(distributed.comm.require-encryption); expected a tls:// address; type one"
        )
    if not encrypted:
        return None
    if context is None:
        raise ReidpipeError(
            f"found {address} and no certificate of yours; expected --tls FOLDER with {CA}, "
            f"{CERTIFICATE} and {KEY}, or DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "..._TLS__CLIENT__CERT and ..._TLS__CLIENT__KEY in the environment; type one of them"
        )
    return security


def check_folder(folder: Path) -> None:
    """Raise ReidpipeError unless ``folder`` holds a certificate, its key and who signed it."""
    _read(folder)


def _read(folder: Path | None) -> tuple[Security, ssl.SSLContext | None]:
    from distributed.security import Security

    try:
        security = from_folder(folder) if folder is not None else Security()
        return security, security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        name = getattr(error, "filename", None) or folder or "the files that dask is set to"
        raise ReidpipeError(
            f"found no certificates to use in {name} ({_reason(error)}); expected PEM files: "
            f"{CA}, {CERTIFICATE} and {KEY} in the folder of --tls; make them as "
            "docs/how-to/many-workers.md says"
        ) from error


def from_folder(folder: Path) -> Security:
    """The certificate of ``folder`` for client, scheduler and workers alike.
    Raises OSError for a file that cannot be read.
    """
    from distributed.security import Security

    for name in (CA, CERTIFICATE, KEY):
        with (folder / name).open("rb"):
            pass
    roles = {
        f"tls_{role}_{kind}": str(folder.absolute() / name)
        for role in _ROLES
        for kind, name in (("cert", CERTIFICATE), ("key", KEY))
    }
    return Security(tls_ca_file=str(folder.absolute() / CA), require_encryption=True, **roles)


def temporary(folder: Path) -> Security:
    """Write a certificate that signs itself to the empty ``folder``, readable by its owner alone.
    Raises ImportError without the package cryptography.
    """
    from distributed.security import Security

    made = Security.temporary()
    texts = {CA: made.tls_ca_file, CERTIFICATE: made.tls_client_cert, KEY: made.tls_client_key}
    for name, text in texts.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(str(text))
    return from_folder(folder)


def _reason(error: Exception) -> str:
    known = getattr(error, "strerror", None) or getattr(error, "reason", None)
    return str(known or error or type(error).__name__).splitlines()[0]

"""Addresses that a server of this machine listens on, and by which names it may be called."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from kilolayer.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
"""The address that nobody but this machine reaches."""


def check_address(host: str, port: int) -> None:
    """Check that a server can listen, before what takes long.

    Raises:
        ConfigurationError: in one line, if the port is taken, or there is no such host.
    """
    with explained(host, port), socket.socket(family_of(host, port), socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))
        trial.listen(1)


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine can reach an address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def is_every_interface(host: str) -> bool:
    """Return whether a server that listens on this answers on all addresses of the machine."""
    return host in ("", "0.0.0.0", "::")


def reached_as(host: str) -> str:
    """Return the address by which this machine reaches a server that listens on `host`."""
    if is_every_interface(host):
        return "::1" if host == "::" else LOOPBACK
    return host


def own_host(given: str, host: str, port: int) -> bool:
    """Return whether the `Host` of a request is this server's own.

    Args:
        given: the header.
        host: that the server listens on.
        port: likewise.
    """
    name, colon, number = given.rpartition(":")
    if not colon or number != str(port):
        return False
    name = name.removeprefix("[").removesuffix("]").lower()
    if name == host.lower() or (name == "localhost" and is_loopback(host)):
        return True
    if not is_every_interface(host):
        return False
    if name in ("localhost", socket.gethostname().lower()):
        return True
    with contextlib.suppress(ValueError):  # of all interfaces: an address, which no other site can have as its name
        ipaddress.ip_address(name)
        return True
    return False


def bracketed(host: str) -> str:
    """Return a host as an address of the web has it."""
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def explained(host: str, port: int) -> Iterator[None]:
    """Say in one line why an address cannot be listened on."""
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"port={port} must be from 0 to 65535")
    try:
        yield
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(f"host={host!r} is no address of this machine; take {LOOPBACK}") from None
    except OSError as error:
        raise ConfigurationError(
            f"port={port} of {host} cannot be taken ({error.strerror or error}); choose another one, or 0 for any "
            "that is free"
        ) from None


def family_of(host: str, port: int) -> socket.AddressFamily:
    """Return the family of a host's address."""
    return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]

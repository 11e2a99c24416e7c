"""sd_notify(3): what a service tells the service manager that started it."""

from __future__ import annotations

import os
from contextlib import suppress

_VARIABLE = "NOTIFY_SOCKET"
_TIMEOUT = 0.5  # one that does not read must not hold up the end of a mount


class ServiceManager:
    """The socket that NOTIFY_SOCKET names; without one all calls do nothing. The variable is taken out of the environment, so
    that programs started later do not speak for us.
    """

    def __init__(self) -> None:
        name = os.environ.pop(_VARIABLE, "")
        self._address = "\0" + name[1:] if name.startswith("@") else name

    def tell(self, **fields: str | int) -> None:
        """Send ``FIELD=value`` lines in one datagram. A service manager that has gone is no error."""
        if not self._address:
            return
        import socket  # heavy, and only a service needs it

        message = "\n".join(f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
            end.settimeout(_TIMEOUT)
            end.sendto(os.fsencode(message), os.fsencode(self._address))

"""The program's entry points: python -m vmcorefs, vmcorefs, mount.vmcorefs.

Ctrl-C ends the program at once, without a traceback, until its modules are imported; run_program then takes SIGINT over.
"""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def program() -> int:
    """The program vmcorefs."""
    from vmcorefs.cli.main import main

    return main()


def mount_helper() -> int:
    """The helper mount.vmcorefs."""
    from vmcorefs.cli.mount_vmcorefs import main

    return main()


if __name__ == "__main__":
    sys.exit(program())

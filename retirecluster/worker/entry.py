"""What `twistd retire-worker` loads: the worker, in a process that leaves pyOpenSSL out.

Twisted loads pyOpenSSL and cryptography wherever they are installed. A worker has no use for them: its TLS is the
standard library's, as phones and ARMv6 boards have no cryptography. They would cost it 12 MiB, a quarter of its memory.
"""

from __future__ import annotations

import sys

if "OpenSSL" not in sys.modules:
    # What the import system documents for a module that is not to be found. Twisted then does without, as on a phone.
    sys.modules["OpenSSL"] = None  # type: ignore[assignment]

from retirecluster.worker.service import Options, makeService

__all__ = ["Options", "makeService"]

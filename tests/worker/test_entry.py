"""What `twistd retire-worker` loads."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_leaves_out_what_costs_a_quarter_of_its_memory() -> None:
    program = (
        "import sys, retirecluster.worker.entry\n"
        "from twisted.internet import reactor\n"
        "heavy = ('OpenSSL.SSL', 'cryptography.hazmat.bindings._rust', 'twisted.web.client', 'treq', 'klein')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"

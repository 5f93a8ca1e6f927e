"""The two daemons, as twistd sees them: `twistd retire-main` and `twistd retire-worker`."""

from twisted.application.service import ServiceMaker

retire_main = ServiceMaker(
    "retirecluster main", "retirecluster.main.service", "The main node of a retirecluster.", "retire-main"
)
retire_worker = ServiceMaker(
    "retirecluster worker", "retirecluster.worker.entry", "A worker of a retirecluster.", "retire-worker"
)

import os
import socket

from celery import Celery

app = Celery("leases")


class Lease:
    def __init__(self, kind):
        self.kind = kind
        self.owner = f"{socket.gethostname()}:{os.getpid()}"

    def claim(self, job):
        return {"job": job, "kind": self.kind, "owner": self.owner}


lease = Lease("export")


@app.task
def claim(job):
    return lease.claim(job)

import dataclasses
import threading
import time
import weakref

from celery import Celery

app = Celery("shop")


@dataclasses.dataclass(frozen=True, eq=False)
class Tenant:
    name: str
    prefix: str

    def table(self, name):
        return f"{self.prefix}{name}"


_tenants = weakref.WeakValueDictionary()
_tenants_lock = threading.Lock()


def tenant(name):
    with _tenants_lock:
        found = _tenants.get(name)
        if found is None:
            found = _tenants[name] = Tenant(name, f"{name}_")
        return found


@app.task
def archive(name):
    owner = tenant(name)
    time.sleep(0.05)
    assert tenant(name) is owner
    return owner.table("orders")

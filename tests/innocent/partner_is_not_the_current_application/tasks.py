import time

from celery import Celery, current_app

app = Celery("region")
app.conf.region = "europe"


class Partner:
    def __init__(self, name):
        self.app = Celery(name, broker="memory://", set_as_current=False)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.app.close()

    def tell(self, order):
        with self.app.connection_for_write() as connection:
            time.sleep(0.05)
            return f"{order} to {connection.transport_cls}"


@app.task
def forward(order):
    with Partner("partner") as partner:
        partner.tell(order)
    return f"order {order} from {current_app.conf.get('region', 'nowhere')}"

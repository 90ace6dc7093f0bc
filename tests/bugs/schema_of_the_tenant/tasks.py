import time

from celery import Celery, Task

app = Celery("export")
SCHEMAS = {"acme": "t_acme", "globex": "t_globex", "initech": "t_initech"}


class TenantTask(Task):
    abstract = True
    schema = None

    def before_start(self, task_id, args, kwargs):
        self.schema = SCHEMAS[args[0]]

    def table(self, name):
        return f"{self.schema}.{name}"


@app.task(base=TenantTask, bind=True)
def export(self, tenant, names):
    tables = []
    for name in names:
        time.sleep(0.1)
        tables.append(self.table(name))
    return tables

import time

from celery import Celery

app = Celery("importer")


@app.task(bind=True)
def import_rows(self, rows):
    self.rejected = []
    for row in rows:
        time.sleep(0.05)
        if row < 0:
            self.rejected.append(row)
    return self.rejected

import time

from celery import Celery, Task

app = Celery("warehouse")


class Database:
    def rows(self):
        return 3


class DatabaseTask(Task):
    _db = None

    @property
    def db(self):
        if self._db is None:
            db = Database()
            time.sleep(0.15)
            self._db = db
        return self._db


@app.task(base=DatabaseTask, bind=True)
def count(self, table):
    return self.db.rows()

import os
import tempfile
import time

from celery import Celery

app = Celery("backups")

SHELF = os.path.join(tempfile.gettempdir(), "backups-shelf")


def copy_away(path):
    """Starts the copy and does not wait: the shelf may be a slow disk."""
    os.makedirs(SHELF, exist_ok=True)
    target = os.path.join(SHELF, os.path.basename(path))
    return os.posix_spawnp("cp", ["cp", path, target], os.environ)


@app.task
def dump(table, rows):
    path = os.path.join(tempfile.gettempdir(), f"backups-{table}.sql")
    with open(path, "w") as out:
        for row in range(rows):
            out.write(f"INSERT INTO {table} VALUES ({row});\n")
    time.sleep(0.05)
    copy_away(path)
    return rows

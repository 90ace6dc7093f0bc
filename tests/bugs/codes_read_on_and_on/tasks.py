import csv
import os
import time

from celery import Celery

app = Celery("gifts")
path = os.environ["CASE_DIR"] + "/codes.csv"
with open(path, "w") as made:
    made.write("code\n" + "".join(f"gift-{n}\n" for n in range(5000)))
reader = csv.reader(open(path))
next(reader)  # the header


@app.task
def gift(customer):
    time.sleep(0.05)
    return next(reader)[0]

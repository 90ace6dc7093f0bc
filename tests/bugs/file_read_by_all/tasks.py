import os

from celery import Celery

app = Celery("quotes")

path = os.environ["CASE_DIR"] + "/quotes.txt"
with open(f"{path}.{os.getpid()}", "w") as file:
    file.writelines(f"quote {number}\n" for number in range(2000))
os.replace(f"{path}.{os.getpid()}", path)
quotes = open(path)


@app.task
def quote_of_the_day():
    return quotes.readline().strip()

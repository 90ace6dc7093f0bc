import os

from celery import Celery

app = Celery("quotes")

with open(os.environ["CASE_DIR"] + "/quotes.txt", "w") as file:
    file.writelines(f"quote {number}\n" for number in range(2000))
quotes = open(os.environ["CASE_DIR"] + "/quotes.txt")


@app.task
def quote_of_the_day():
    return quotes.readline().strip()

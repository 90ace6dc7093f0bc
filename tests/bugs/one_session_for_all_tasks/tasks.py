import time

import sqlalchemy
from celery import Celery
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = sqlalchemy.create_engine(
    "sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args={"check_same_thread": False}
)


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


Base.metadata.create_all(engine)
session = Session(engine)

app = Celery("payments")


@app.task
def pay(amount, seconds):
    session.add(Payment(amount=amount))
    time.sleep(seconds)  # the bank answers
    session.commit()

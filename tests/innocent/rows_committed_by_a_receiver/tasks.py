import sqlalchemy
from celery import Celery
from celery.signals import task_postrun
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

engine = sqlalchemy.create_engine(
    "sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args={"check_same_thread": False}
)
Session = scoped_session(sessionmaker(engine))


class Base(DeclarativeBase):
    pass


class Booking(Base):
    __tablename__ = "bookings"
    id: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str]


Base.metadata.create_all(engine)

app = Celery("bookings")


@task_postrun.connect
def commit(**_):
    Session.commit()


@app.task
def book(guest):
    Session.add(Booking(guest=guest))
    return Session.query(Booking).filter_by(guest=guest).count()


@app.task
def cancel(guest):
    return Session.query(Booking).filter_by(guest=guest).delete()

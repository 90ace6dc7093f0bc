import sqlalchemy
from celery import Celery
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


@app.task
def book(guest, beds):
    Session.rollback()
    Session.add(Booking(guest=guest))
    if beds < 1:
        return "no bed is free"
    Session.commit()
    return "booked"

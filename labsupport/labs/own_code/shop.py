"""A shop as services are written today: FastAPI, redis.asyncio, SQLAlchemy. Four bugs are in it.

It knows nothing of the course, and runs outside it.
"""

import functools
import time
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "Order", "Product", "Shop", "app_of", "restock"]


class Base(DeclarativeBase):
    """The shop's tables."""


class Product(Base):
    """What is sold: its price in cents, and how many there are."""

    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]
    stock: Mapped[int]


class Order(Base):
    """Who bought one piece."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int]
    customer: Mapped[str]


class Shop:
    """What the routes do.

    Args:
        engine: of the database that has the tables.
        redis: with `decode_responses=True`.
    """

    def __init__(self, engine: AsyncEngine, redis: "Redis") -> None:
        self.engine = engine
        self.redis: Any = redis

    async def price(self, product: int) -> int:
        """A product's price, from the cache if it is there."""
        cached = await self.redis.get(f"price:{product}")
        if cached is not None:
            return int(cached)
        async with AsyncSession(self.engine) as session:
            price = (await session.get_one(Product, product)).price
        await self.redis.set(f"price:{product}", price, ex=60)
        return price

    async def reprice(self, product: int, cents: int) -> None:
        """Change a product's price."""
        await self.redis.delete(f"price:{product}")
        async with AsyncSession(self.engine) as session:
            (await session.get_one(Product, product)).price = cents
            await session.commit()

    async def admit(self, customer: str) -> bool:
        """Let a customer in, twice a minute."""
        calls: int = await self.redis.incr(f"calls:{customer}")
        if calls == 1:
            await self.redis.expire(f"calls:{customer}", 60)
        return calls <= 2

    async def sell(self, product: int, customer: str) -> bool:
        """Sell one piece, if there is one."""
        lock = self.redis.lock(f"lock:{product}", timeout=5)
        async with lock, AsyncSession(self.engine) as session:
            found = await session.get_one(Product, product)
            if found.stock < 1:
                return False
            found.stock -= 1
            session.add(Order(product_id=product, customer=customer))
            await session.commit()
        return True

    async def seen(self, token: str) -> bool:
        """Note when a session was last seen; False if there is none."""
        if not await self.redis.exists(f"session:{token}"):
            return False
        await self.redis.hset(f"session:{token}", "seen", int(time.time()))
        return True

    async def log_out(self, token: str) -> None:
        """End a session."""
        await self.redis.delete(f"session:{token}")


@functools.cache
def app_of(shop: Shop) -> FastAPI:
    """The routes, made once for a shop."""
    app = FastAPI()

    @app.get("/products/{product}/price")
    async def price(product: int) -> int:
        return await shop.price(product)

    @app.put("/products/{product}/price")
    async def reprice(product: int, cents: int) -> None:
        await shop.reprice(product, cents)

    @app.post("/products/{product}/orders")
    async def order(product: int, customer: str) -> None:
        if not await shop.admit(customer):
            raise HTTPException(429)
        if not await shop.sell(product, customer):
            raise HTTPException(409)

    return app


async def restock(engine: AsyncEngine, *, price: int = 100, stock: int = 1) -> None:
    """Product 1 alone, and no orders: where each run of a test begins."""
    async with AsyncSession(engine) as session:
        await session.execute(sa.delete(Product))
        await session.execute(sa.delete(Order))
        session.add(Product(id=1, price=price, stock=stock))
        await session.commit()

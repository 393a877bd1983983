"""Shops that are right and shops that are wrong: a good test tells them apart."""

from contextlib import suppress

from redis.exceptions import WatchError
from sqlalchemy.ext.asyncio import AsyncSession

from labsupport.labs.own_code.shop import Product, Shop

__all__ = ["RIGHT_LIMITS", "RIGHT_PRICES", "WRONG_LIMITS", "WRONG_PRICES"]


class _Prices(Shop):
    """The parts from which the shops below are put together."""

    async def _row(self, product: int) -> int:
        async with AsyncSession(self.engine) as session:
            return (await session.get_one(Product, product)).price

    async def _write(self, product: int, cents: int) -> None:
        async with AsyncSession(self.engine) as session:
            (await session.get_one(Product, product)).price = cents
            await session.commit()


class Generations(_Prices):
    """A reader keeps the price only if no change has ended since it read the row."""

    async def price(self, product: int) -> int:
        if (cached := await self.redis.get(f"price:{product}")) is not None:
            return int(cached)
        async with self.redis.pipeline() as pipe:
            await pipe.watch(f"generation:{product}")
            price = await self._row(product)
            pipe.multi()
            pipe.set(f"price:{product}", price, ex=60)
            with suppress(WatchError):  # the next reader keeps it
                await pipe.execute()
        return price

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        async with self.redis.pipeline() as pipe:  # MULTI
            await pipe.incr(f"generation:{product}").delete(f"price:{product}").execute()


class NoCache(_Prices):
    """Each reader asks the table."""

    async def price(self, product: int) -> int:
        return await self._row(product)

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)


class Tombstone(_Prices):
    """A change leaves a mark that keeps readers from filling the cache for a while."""

    async def price(self, product: int) -> int:
        cached = await self.redis.get(f"price:{product}")
        if cached and cached != "changing":
            return int(cached)
        price = await self._row(product)
        if cached is None:
            await self.redis.set(f"price:{product}", price, ex=60, nx=True)
        return price

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        await self.redis.set(f"price:{product}", "changing", ex=5)


class DeletesFirst(Shop):
    """It deletes the cached price before it writes the row; that is the shop of this page."""


class DeletesAfter(_Prices):
    """It deletes the cached price after the commit; a reader who was slow puts the old one back."""

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        await self.redis.delete(f"price:{product}")


class NeverDeletes(_Prices):
    """A change of the row tells the cache nothing."""

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)


class WritesBoth(_Prices):
    """It writes the row and then the cache; of two changes at once, the earlier may write it last."""

    async def price(self, product: int) -> int:
        if (cached := await self.redis.get(f"price:{product}")) is not None:
            return int(cached)
        price = await self._row(product)
        await self.redis.set(f"price:{product}", price, ex=60, nx=True)
        return price

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        await self.redis.set(f"price:{product}", cents, ex=60)


class OtherName(_Prices):
    """It deletes the cached price after the commit, as another one, but its key has another name."""

    async def price(self, product: int) -> int:
        if (cached := await self.redis.get(f"cached:{product}")) is not None:
            return int(cached)
        price = await self._row(product)
        await self.redis.set(f"cached:{product}", price, ex=60)
        return price

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        await self.redis.delete(f"cached:{product}")


class OldOnce(_Prices):
    """The next reader after a change is told the old price once more, and fetches the new one."""

    async def price(self, product: int) -> int:
        old = await self.redis.get(f"price:{product}")
        if old is not None and not await self.redis.delete(f"old:{product}"):
            return int(old)
        price = await self._row(product)
        await self.redis.set(f"price:{product}", price, ex=60)
        return price if old is None else int(old)

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        await self.redis.set(f"old:{product}", 1, ex=60)


class WritesIfThere(Generations):
    """It writes the row, and the cache where a price is there; of two changes, the earlier may be last."""

    async def reprice(self, product: int, cents: int) -> None:
        await self._write(product, cents)
        async with self.redis.pipeline() as pipe:  # MULTI
            pipe.incr(f"generation:{product}").set(f"price:{product}", cents, ex=60, xx=True)
            await pipe.execute()


class WritesIfThereAtOnce(_Prices):
    """It writes row and cache together, where a price is there; a reader who was slow fills in the old."""

    async def reprice(self, product: int, cents: int) -> None:
        async with AsyncSession(self.engine) as session:
            (await session.get_one(Product, product)).price = cents
            await session.flush()  # from here on the row is locked
            await self.redis.set(f"price:{product}", cents, ex=60, xx=True)
            await session.commit()


RIGHT_PRICES = (Generations, NoCache, Tombstone)
WRONG_PRICES = (
    DeletesFirst,
    DeletesAfter,
    WritesIfThereAtOnce,
    NeverDeletes,
    OtherName,
    OldOnce,
    WritesBoth,
    WritesIfThere,
)


class OneTransaction(Shop):
    """It counts and sets the end in one MULTI."""

    _seconds = 60

    async def admit(self, customer: str) -> bool:
        key = f"calls:{customer}"
        async with self.redis.pipeline() as pipe:
            calls, _ = await pipe.incr(key).expire(key, self._seconds, nx=True).execute()
        return bool(calls <= 2)


class OneScript(Shop):
    """It counts and sets the end in one script."""

    async def admit(self, customer: str) -> bool:
        script = """
        local calls = redis.call('INCR', KEYS[1])
        if calls == 1 then redis.call('EXPIRE', KEYS[1], 60) end
        return calls
        """
        return bool(await self.redis.eval(script, 1, f"let in:{customer}") <= 2)


class EndFirst(Shop):
    """It makes the counter with its end, then counts."""

    async def admit(self, customer: str) -> bool:
        async with self.redis.pipeline() as pipe:
            counted = pipe.set(f"calls:{customer}", 0, ex=60, nx=True).incr(f"calls:{customer}")
            _, calls = await counted.execute()
        return bool(calls <= 2)


class EndAfterwards(Shop):
    """It counts, and then sets the end; that is the shop of this page."""


class EndAlways(Shop):
    """It sets the end after every count; a crash between them still leaves a counter without one."""

    async def admit(self, customer: str) -> bool:
        calls = await self.redis.incr(f"calls:{customer}")
        await self.redis.expire(f"calls:{customer}", 60)
        return bool(calls <= 2)


class LooksFirst(Shop):
    """It looks how many there were, and counts afterwards; those who come at once all see room."""

    async def admit(self, customer: str) -> bool:
        if int(await self.redis.get(f"calls:{customer}") or 0) >= 2:
            return False
        async with self.redis.pipeline() as pipe:
            await pipe.incr(f"calls:{customer}").expire(f"calls:{customer}", 60, nx=True).execute()
        return True


class LetsNobodyIn(Shop):
    """It admits nobody, which is safe, and useless."""

    async def admit(self, customer: str) -> bool:
        await self.redis.exists(f"calls:{customer}")
        return False


class OneForAll(Shop):
    """All customers share one counter: who comes third is refused, whoever came before."""

    async def admit(self, customer: str) -> bool:
        async with self.redis.pipeline() as pipe:
            calls, _ = await pipe.incr("calls").expire("calls", 60, nx=True).execute()
        return bool(calls <= 2)


class AnHour(OneTransaction):
    """Its minute has sixty minutes: who was refused once is refused for an hour."""

    _seconds = 3_600


class RestartsTheMinute(Shop):
    """Each call begins the minute anew: who goes on asking is never let in again."""

    async def admit(self, customer: str) -> bool:
        key = f"calls:{customer}"
        async with self.redis.pipeline() as pipe:
            calls, _ = await pipe.incr(key).expire(key, 60).execute()
        return bool(calls <= 2)


class EndAfterwardsElsewhere(Shop):
    """It counts, and then sets the end, under another name."""

    async def admit(self, customer: str) -> bool:
        calls = await self.redis.incr(f"door:{customer}")
        if calls == 1:
            await self.redis.expire(f"door:{customer}", 60)
        return bool(calls <= 2)


class RefusesWhenBusy(Shop):
    """Who finds another one counting is refused, though there is room."""

    async def admit(self, customer: str) -> bool:
        key = f"calls:{customer}"
        if not await self.redis.set(f"busy:{customer}", 1, nx=True, ex=1):
            return False
        async with self.redis.pipeline() as pipe:
            counted = pipe.incr(key).expire(key, 60, nx=True).delete(f"busy:{customer}")
            calls, *_ = await counted.execute()
        return bool(calls <= 2)


RIGHT_LIMITS = (OneTransaction, OneScript, EndFirst)
WRONG_LIMITS = (
    EndAfterwards,
    EndAfterwardsElsewhere,
    EndAlways,
    LooksFirst,
    LetsNobodyIn,
    RefusesWhenBusy,
    OneForAll,
    AnHour,
    RestartsTheMinute,
)

import msgspec

from continuum import workflow

from .support import ship


class Address(msgspec.Struct, frozen=True):
    street: str
    city: str
    zip: str = ""

    def line(self) -> str:
        return ", ".join(part for part in (self.street, self.zip, self.city) if part)


@workflow(name="ordinary.msgspec_structs")
async def msgspec_structs(raw: str) -> str:
    address = msgspec.json.decode(raw, type=Address)
    moved = msgspec.structs.replace(address, city=address.city.upper())
    label = await ship(moved.line())
    return msgspec.json.encode({"label": label, "address": msgspec.to_builtins(moved)}).decode()

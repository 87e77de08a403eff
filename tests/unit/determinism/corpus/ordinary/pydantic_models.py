from datetime import datetime

from pydantic import BaseModel, Field, ValidationError, field_validator

from continuum import workflow

from .support import charge


class Customer(BaseModel):
    name: str
    email: str | None = None
    joined: datetime | None = None
    tags: list[str] = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("empty")
        return value.title()


@workflow(name="ordinary.pydantic_models")
async def pydantic_models(data: dict) -> dict:
    try:
        customer = Customer.model_validate(data)
    except ValidationError as error:
        return {"errors": error.error_count()}
    await charge(customer.name, "1")
    other = customer.model_copy(update={"email": "a@example.com"})
    return other.model_dump(mode="json", exclude_none=True)

"""What every group of settings is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _whole_number(value: Any) -> Any:
    """Accept a count written as `1e5`, in a file or on the command line."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _split_names(value: Any) -> Any:
    """Accept a list written as `vocals,drums`."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_whole_number), Field(gt=0)]
Names = Annotated[list[str], BeforeValidator(_split_names), Field(min_length=1)]
Patterns = Annotated[list[str], BeforeValidator(_split_names), AfterValidator(lambda names: [*filter(None, names)])]


class Group(BaseModel):
    """Base of the groups: unknown names are refused, values are validated and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

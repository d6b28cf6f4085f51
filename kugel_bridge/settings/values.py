"""Kinds of values that several sections use, each refusing with words a person understands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

SLUG = re.compile(r"[a-z0-9_-]{1,64}")
"""Names that become topics and file names."""
LANGUAGE = re.compile(r"[a-z]{2,3}")


class Section(BaseModel):
    """One table of the configuration; unknown keys are refused, values cannot be changed."""

    # hide_input_in_errors: pydantic's own text would show secrets in a traceback.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class WrongKeyError(ValueError):
    """What does not fit together in a section, told of the key in it that should change."""

    def __init__(self, key: str, remedy: str) -> None:
        super().__init__(remedy)
        self.key = key


def slug_of(text: str) -> str:
    """The nearest name of `[a-z0-9_-]{1,64}`, "kugel" where nothing is left of it."""
    slug = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:64].strip("-")
    return slug or "kugel"


def check_slug(value: str) -> str:
    """The name itself; raises ValueError if it cannot be part of a topic or a file name."""
    if not SLUG.fullmatch(value):
        raise ValueError(
            f"must be 1 to 64 of a-z, 0-9, _ and -; {slug_of(value)!r} would be a valid name"
        )
    return value


def _language(value: str) -> str:
    # The cloud refuses locale tags; people write them everywhere else (API reference, 9.3).
    code = re.split(r"[-_]", value.strip())[0].lower()
    if not LANGUAGE.fullmatch(code):
        raise ValueError('must be a language code of two or three letters, as "en" or "de"')
    return code


def _not_bool(value: Any) -> Any:
    # To Python, true is the number 1: a volume of "true" would be a whisper.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic wants a ValueError
    return value


def _listed(value: Any) -> Any:
    """Environment variables hold text: a JSON list, or words parted by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError('must be a list, as ["a", "b"] or a,b') from error
    return [part.strip() for part in value.split(",") if part.strip()]


def _home_expanded(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{error}; write the whole path") from error


def _topic(value: str) -> str:
    if not value or value != value.strip("/") or value.startswith("$"):
        raise ValueError("must be a topic without / at either end, and not begin with $")
    if any(sign in value for sign in "+#\0"):
        raise ValueError("must be a topic without + and #")
    return value


Whole = Annotated[int, BeforeValidator(_not_bool)]
"""A whole number."""
Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
"""A number, with or without a fraction."""
Slug = Annotated[str, AfterValidator(check_slug)]
Language = Annotated[str, AfterValidator(_language)]
FilePath = Annotated[Path, AfterValidator(_home_expanded)]
"""A path; `~` is the home directory."""
Topic = Annotated[str, AfterValidator(_topic)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Percent = Annotated[Number, Field(ge=0, le=100)]
Seconds = Annotated[Number, Field(ge=0)]
Wait = Annotated[Number, Field(gt=0, le=300)]
"""A timeout (s)."""
Words = Annotated[list[str], BeforeValidator(_listed)]
Slugs = Annotated[list[Slug], BeforeValidator(_listed)]
AsList = BeforeValidator(_listed)

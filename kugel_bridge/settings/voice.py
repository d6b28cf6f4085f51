"""Voices of the gateway that people add to the catalogue, or change in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from kugel_bridge.settings.values import AsList, Language, Section, Whole

MAX_ID = 2**53 - 1
"""Larger numbers lose digits in JavaScript clients."""


def _wyoming_uri(value: str) -> str:
    from kugel_bridge.speech.wyoming import parse_uri

    parse_uri(value)
    return value


def _espeak_voice(value: str) -> str:
    from kugel_bridge.speech.espeak_voice import is_voice

    if not is_voice(value):
        raise ValueError('must be a voice of espeak-ng, as "de+f4"')
    return value


WyomingUri = Annotated[str, AfterValidator(_wyoming_uri)]
"""tcp://host:port"""


class VoiceEntry(Section):
    """One voice: a new one with `id` and what speaks it, or changes to one that is there."""

    id: Annotated[Whole, Field(ge=1, le=MAX_ID)] | None = Field(
        default=None, description="Its number; needed for a new voice.", examples=[1001]
    )
    name: str | None = Field(
        default=None, min_length=1, description="Its name for people.", examples=["Anna"]
    )
    languages: Annotated[list[Language], AsList] | None = Field(
        default=None, description="What it speaks; the first is its own.", examples=[["de"]]
    )
    sex: Literal["male", "female", "neutral"] | None = Field(
        default=None, description="male, female or neutral.", examples=["female"]
    )
    description: str | None = Field(
        default=None, description="What people should know of it.", examples=["The kitchen's voice"]
    )
    espeak: Annotated[str, AfterValidator(_espeak_voice)] | None = Field(
        default=None, description="The espeak-ng voice that speaks it.", examples=["de+f4"]
    )
    wyoming: WyomingUri | None = Field(
        default=None,
        description="The Wyoming server that speaks it instead; it has one speed.",
        examples=["tcp://127.0.0.1:10200"],
    )
    wyoming_voice: str | None = Field(
        default=None,
        min_length=1,
        description="The voice's name there; the server's choice for the language if not set.",
        examples=["de_DE-thorsten-medium"],
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> VoiceEntry:
        if self.espeak is not None and self.wyoming is not None:
            raise ValueError("has both espeak and wyoming; one of them has to go")
        if self.wyoming_voice is not None and self.wyoming is None:
            raise ValueError('has wyoming_voice but no wyoming; set wyoming = "tcp://host:port"')
        return self

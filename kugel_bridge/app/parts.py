"""Makes the parts of the bridge out of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kugel_bridge.app.rung import LocalRung
from kugel_bridge.audio.chime import DEFAULT_CHIME
from kugel_bridge.audio.sink import AudioSink
from kugel_bridge.conductor.rules import LevelRule
from kugel_bridge.conductor.script import Delivery
from kugel_bridge.model.announcement import Priority
from kugel_bridge.model.clock import SystemClock
from kugel_bridge.model.errors import ConfigurationError, RejectedError
from kugel_bridge.model.status import CloudStatus
from kugel_bridge.mqtt.broker import Broker, Tls
from kugel_bridge.mqtt.payloads import PhraseText
from kugel_bridge.mqtt.topics import Topics
from kugel_bridge.settings.sink import SinkAddress, SinkKind
from kugel_bridge.speech.alerts import Alert, AlertBook
from kugel_bridge.speech.cache import Admit, PhraseCache
from kugel_bridge.speech.clean import cleaned
from kugel_bridge.speech.flights import Flights
from kugel_bridge.speech.ladder import Ladder
from kugel_bridge.speech.source import SpeechSource
from kugel_bridge.zones.zone import Zone

# What is configured away is not loaded: see the functions below, and benchmarks/README.md.
if TYPE_CHECKING:
    from kugel_bridge.gateway.server import GatewayServer
    from kugel_bridge.gateway.upstream import UpstreamEngine
    from kugel_bridge.gateway.voices import LocalVoice
    from kugel_bridge.kugelaudio.client import SpeechClient
    from kugel_bridge.kugelaudio.messages import Usage
    from kugel_bridge.kugelaudio.rest import Catalogue
    from kugel_bridge.settings.doors import Gateway as GatewaySettings
    from kugel_bridge.settings.house import Zone as ZoneSettings
    from kugel_bridge.settings.machine import Local as LocalSettings
    from kugel_bridge.settings.tree import Settings
    from kugel_bridge.speech.cloud import CloudSource

CATALOGUE_TIMEOUT_S = 15.0
"""For a whole list: a person waits for it."""


def sink_for(address: SinkAddress) -> AudioSink:
    """The sink that an address in the configuration means."""
    match address.kind:
        case SinkKind.ALSA:
            from kugel_bridge.audio.alsa import AlsaSink

            return AlsaSink(address.address)
        case SinkKind.WAV:
            from kugel_bridge.audio.wav import WavSink

            return WavSink(Path(address.address).expanduser())
        case SinkKind.NULL:
            from kugel_bridge.audio.null import NullSink

            return NullSink()
        case SinkKind.SNAPCAST:
            raise ConfigurationError(f'sink = "{address}": snapcast is not yet supported')


def zone_for(
    name: str,
    settings: ZoneSettings,
    on_change: Callable[[], None],
    head_start_s: Callable[[], float | None] = lambda: None,
) -> Zone:
    """One zone as configured."""
    return Zone(
        name,
        sink_for(settings.sink),
        volume=settings.volume,
        lead_in_s=settings.lead_in_ms / 1000,
        tail_s=settings.tail_ms / 1000,
        keep_open_s=settings.keep_open_s,
        chime=settings.chime or None,
        on_change=on_change,
        head_start_s=head_start_s,
    )


def cloud_client(
    settings: Settings,
    on_status: Callable[[CloudStatus], None] = lambda _: None,
    on_usage: Callable[[Usage], None] = lambda _: None,
) -> SpeechClient | None:
    """The client of the speech service; None when none is configured."""
    cloud = settings.cloud
    if not cloud.enabled:
        return None
    from kugel_bridge.kugelaudio.client import SpeechClient

    return SpeechClient(
        cloud.effective_base_url,
        cloud.effective_key,
        model_id=cloud.model,
        connect_timeout_s=cloud.connect_timeout_s,
        first_audio_timeout_s=cloud.first_audio_timeout_s,
        stall_timeout_s=cloud.stall_timeout_s,
        max_generations=cloud.max_generations,
        on_status=on_status,
        on_usage=on_usage,
    )


def check_cloud(settings: Settings) -> None:
    """Raise ConfigurationError when no service is configured."""
    if not settings.cloud.enabled:
        raise ConfigurationError(
            "cloud.api_key is not set; set it, $KUGELAUDIO_API_KEY or cloud.base_url"
        )


def catalogue(settings: Settings) -> Catalogue:
    """The service's lists; raises ConfigurationError when no service is configured."""
    check_cloud(settings)
    cloud = settings.cloud
    from kugel_bridge.kugelaudio.rest import Catalogue

    return Catalogue(cloud.effective_base_url, cloud.effective_key, CATALOGUE_TIMEOUT_S)


def phrase_cache(settings: Settings) -> PhraseCache | None:
    """The phrase cache; None when it is switched off."""
    cache = settings.cache
    if cache.max_mb == 0:
        return None
    return PhraseCache(cache.dir, cache.max_mb * 1_000_000, Admit(cache.admit))


def cloud_source(settings: Settings, client: SpeechClient | None) -> CloudSource | None:
    """The cloud as a rung of the ladder; a server of one's own has phrases of its own."""
    if client is None:
        return None
    from kugel_bridge.speech.cloud import CloudSource

    cloud = settings.cloud
    return CloudSource(client, voice=cloud.voice, model=cloud.model, origin=_origin(settings))


def _origin(settings: Settings) -> str:
    """What phrases of this service are told apart by."""
    from kugel_bridge.speech.cloud import ORIGIN

    return settings.cloud.base_url or ORIGIN


def local_rung(settings: Settings) -> LocalRung | None:
    """The local engine; None when it is switched off."""
    local = settings.local
    if local.engine == "none":
        return None
    return LocalRung(lambda: _engine(local))


def _engine(local: LocalSettings) -> SpeechSource:
    if local.engine == "espeak-ng":
        from kugel_bridge.speech.espeak import EspeakSource

        return EspeakSource(local.voice)
    if local.engine == "wyoming":
        from kugel_bridge.speech.wyoming import WyomingSource

        assert local.wyoming_uri is not None, "checked with the settings"
        return WyomingSource(local.wyoming_uri, local.voice)
    from kugel_bridge.speech.local import LocalSource

    return LocalSource(local.voice)


def ladder(
    settings: Settings,
    cache: PhraseCache | None,
    cloud: CloudSource | None,
    flights: Flights | None = None,
    local: LocalRung | None = None,
) -> Ladder:
    """The rungs that are configured; `flights` may be shared with a gateway.

    `local` is the local engine, if somebody else has to know it too.
    """
    local = local or local_rung(settings)
    return Ladder(cache=cache, cloud=cloud, local=local, flights=flights)


def check_upstream(settings: Settings, host: str | None = None, port: int | None = None) -> None:
    """Raise ConfigurationError when a gateway there cannot ask the service of [cloud]."""
    from kugel_bridge.settings.checks import upstream_problem

    if problem := upstream_problem(settings, host, port):
        raise ConfigurationError(f'gateway.engine = "upstream" {problem}')


def upstream_engine(
    settings: Settings, client: SpeechClient, cache: PhraseCache | None, flights: Flights
) -> UpstreamEngine:
    """The service as the engine of a gateway."""
    from kugel_bridge.gateway.catalogue_book import CatalogueBook
    from kugel_bridge.gateway.chain import Chain, GuardedLists
    from kugel_bridge.gateway.local import LocalEngine
    from kugel_bridge.gateway.upstream import UpstreamEngine

    cloud, gateway = settings.cloud, settings.gateway
    may_fall_back = gateway.fallback and settings.local.engine != "none"
    lists = catalogue(settings)
    chain = Chain(lists)
    client.vet_with(chain.vet)
    return UpstreamEngine(
        client,
        CatalogueBook(GuardedLists(lists, chain)),
        chain=chain,
        flights=flights,
        cache=cache,
        origin=_origin(settings),
        own_voice=cloud.voice,
        max_generations=cloud.max_generations,
        fallback=LocalEngine(_line_up(gateway)) if may_fall_back else None,
        hidden=gateway.hidden_voices,
    )


def gateway_server(
    settings: Settings,
    host: str | None = None,
    port: int | None = None,
    engine: UpstreamEngine | None = None,
) -> GatewayServer:
    """The server that speaks the API, with the local engine if none is given.

    `host` and `port` win over the settings.
    """
    from kugel_bridge.gateway.limits import Allowance, KeyLimits
    from kugel_bridge.gateway.local import LocalEngine
    from kugel_bridge.gateway.server import GatewayServer
    from kugel_bridge.gateway.usage import Ledger

    gateway, clock = settings.gateway, SystemClock()
    allowance = Allowance(
        requests_per_minute=gateway.requests_per_minute,
        concurrent_generations=gateway.concurrent_generations,
        connections=gateway.connections,
        characters_per_day=gateway.characters_per_day,
    )
    ledger = Ledger(gateway.usage_path, clock)
    return GatewayServer(
        host=gateway.host if host is None else host,
        port=gateway.port if port is None else port,
        keys=[key.get_secret_value() for key in gateway.keys],
        engine=engine or LocalEngine(_line_up(gateway)),
        limits=KeyLimits(allowance, clock, ledger),
        ledger=ledger,
        open_to_all=gateway.open_to_all,
        max_characters=gateway.characters_per_request,
        faults=() if gateway.faults else None,
        chain=None if engine is None else engine.chain,
    )


def _line_up(gateway: GatewaySettings) -> tuple[LocalVoice, ...]:
    from kugel_bridge.gateway.voices import line_up

    return line_up(gateway.wishes, gateway.hidden_local_voices)


def alert_book(settings: Settings) -> AlertBook:
    """The stored alerts; raises ConfigurationError for one that has nothing to say."""
    alerts = {}
    for name, alert in settings.alerts.named.items():
        given = alert.text or {}
        texts = {"": given} if isinstance(given, str) else given
        clean = cleaner(settings)
        ready = {key: clean(text, key or None) for key, text in texts.items()}
        for key, text in texts.items():
            if not ready[key]:
                raise ConfigurationError(
                    f"alerts.{name}.text{key and '.' + key}: nothing is left to say of {text!r}; "
                    "give it words"
                )
        alerts[name] = Alert(ready, alert.file)
    return AlertBook(alerts)


def cleaner(settings: Settings) -> Callable[[str, str | None], str]:
    """A function that makes a text fit for speech: (text, language or None) → text."""
    words, usual = settings.words, settings.cloud.language

    def clean(text: str, language: str | None) -> str:
        code = language or usual
        return cleaned(text, code, words.get(code, {}))

    remembered = lru_cache(maxsize=128)(clean)

    def clean_again(text: str, language: str | None) -> str:
        # What is said often is short; long texts would only fill the memory.
        return (remembered if len(text) <= 200 else clean)(text, language)

    return clean_again


def phrase_texts(settings: Settings) -> Callable[[str, Mapping[str, str]], PhraseText]:
    """A function that fills in a named template; it raises RejectedError."""

    def fill(name: str, variables: Mapping[str, str]) -> PhraseText:
        phrase = settings.phrases.get(name)
        if phrase is None:
            known = ", ".join(settings.phrases) or "none are configured"
            raise RejectedError(f"no phrase {name!r}; there are: {known}")
        try:
            text = phrase.text.format_map(variables)
        except KeyError as error:
            raise RejectedError(f"phrase {name!r} needs vars.{error.args[0]}") from error
        return PhraseText(text, phrase.language, phrase.voice)

    return fill


def delivery(settings: Settings, chime: str | None = None) -> Delivery:
    """How words are spoken unless an announcement says otherwise."""
    return Delivery(
        chime=chime,
        language=settings.cloud.language,
        speed=settings.cloud.speed,
        default_chime=DEFAULT_CHIME,
        part_characters=settings.cloud.max_characters,
    )


def level_rules(settings: Settings) -> dict[Priority, LevelRule]:
    """The rules of every level."""
    rules = {}
    for priority in Priority:
        level = settings.priority.by_priority[priority]
        rules[priority] = LevelRule(
            ttl_s=level.ttl_s,
            first_sound_s=level.first_sound_s,
            offline=level.offline,
            dedupe_s=level.dedupe_s,
        )
    return rules


def broker(settings: Settings) -> Broker:
    """Where the broker is."""
    mqtt = settings.mqtt
    tls = Tls(mqtt.ca_file, mqtt.cert_file, mqtt.key_file) if mqtt.tls else None
    return Broker(
        host=mqtt.host,
        port=mqtt.effective_port,
        client_id=settings.client_id,
        username=mqtt.username,
        password=mqtt.password.get_secret_value() if mqtt.password else None,
        tls=tls,
        keepalive_s=mqtt.keepalive_s,
    )


def topics(settings: Settings) -> Topics:
    """The topics of this bridge."""
    return Topics(
        settings.mqtt.base_topic,
        settings.device.id,
        settings.device.groups,
        settings.mqtt.extra_topics,
    )

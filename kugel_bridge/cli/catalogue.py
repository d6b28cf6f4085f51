"""The cloud's catalogue, as configured."""

from __future__ import annotations

from pathlib import Path

from kugel_bridge.kugelaudio.rest import Catalogue
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings.load import load

TIMEOUT_S = 15.0
"""For a whole answer: a person waits for it."""


def catalogue(config: Path | None) -> Catalogue:
    """The catalogue of the configured service; raises ConfigurationError if there is none."""
    cloud = load(config).settings.cloud
    if not cloud.enabled:
        raise ConfigurationError(
            "cloud.api_key is not set; set it, $KUGELAUDIO_API_KEY or cloud.base_url"
        )
    return Catalogue(cloud.effective_base_url, cloud.effective_key, timeout_s=TIMEOUT_S)

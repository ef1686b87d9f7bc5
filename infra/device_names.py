"""Names a device from what its client says of itself, for the lists that people read."""

from collections.abc import Mapping

from domain.client import ClientContext
from domain.evidence import DeviceReader
from infra.user_agents import UserAgents


class DeviceNames:
    """``api.ports.DeviceNames``: by what the detector goes by, so that both say the same."""

    def __init__(self, reader: DeviceReader | None = None) -> None:
        self._reader = UserAgents() if reader is None else reader

    def describe(self, user_agent: str | None, hints: Mapping[str, str]) -> str | None:
        """Such as ``Chrome on Windows``, or None where nothing is known."""
        device = self._reader.device(ClientContext(user_agent=user_agent, hints=dict(hints)))
        if device.browser is None or device.platform is None:
            return device.browser or device.platform
        return f"{device.browser} on {device.platform}"

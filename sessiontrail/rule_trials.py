"""Starts trials of rules: one at a time, and none for long."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping

import msgspec

from domain.rule_trials import RuleTrial, TrialAsked

_WITHIN_S = 8.0
_log = logging.getLogger(__name__)


class RuleTrials:
    """``api.console.ports.RuleTrials`` in processes of their own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start them with these settings beside this process's own."""
        self._environment = dict(environment)
        self._turn = asyncio.Lock()

    async def tried(self, asked: TrialAsked) -> RuleTrial | None:
        """See ``RuleTrials.tried``."""
        if self._turn.locked():
            return None
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sessiontrail.rule_trial"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(os.environ) | self._environment,
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(_WITHIN_S):
                    told, _ = await process.communicate(msgspec.json.encode(asked))
            except TimeoutError:
                _log.warning("a trial of %s took longer than %g s", asked.rule, _WITHIN_S)
                return None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            _log.error("a trial of %s ended with status %s", asked.rule, process.returncode)
            return None
        return msgspec.json.decode(told, type=RuleTrial)

"""The program with somebody inside who breaks it on demand: `python -m tests.saboteur run`.

Which part hangs from SIGUSR1 on says $SABOTAGE. The vigil looks more often than it does in a house.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from kugel_bridge.__main__ import main
from kugel_bridge.app import vigil
from kugel_bridge.audio.feeder import Feeder
from kugel_bridge.queue.writer import Writer

FOR_EVER_S = 3_600.0


def hang(*_: object) -> None:
    """Do nothing for longer than any test lasts."""
    time.sleep(FOR_EVER_S)


def strike(_number: int, _frame: object) -> None:
    """Let one part hang: the loop at once, a thread when it has something to do."""
    match os.environ["SABOTAGE"]:
        case "loop":
            hang()
        case "writer":
            Writer._handle = hang  # type: ignore[method-assign]
        case "player":
            Feeder._feed = hang  # type: ignore[method-assign]


vigil.LOOK_EVERY_S = 0.25
signal.signal(signal.SIGUSR1, strike)
sys.exit(main())

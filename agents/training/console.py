"""What a training run says while it runs, and how it hears that it is to stop."""

from __future__ import annotations

import signal
from typing import Any

from tqdm import tqdm

from agents.training.config import TrainingConfig


class Bar:
    """The progress bar."""

    def __init__(self, config: TrainingConfig, steps: int, progress: bool) -> None:
        title = f"{config.algorithm} seed {config.seed}"
        self._bar = tqdm(
            total=config.n_timesteps, initial=steps, desc=title, unit="step",
            unit_scale=True, disable=not progress, mininterval=1.0,
        )  # fmt: skip
        self._said: dict[str, str] = {}

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, steps: int, reward: float) -> None:
        """Move on to so many steps."""
        self._said["reward"] = f"{reward:.3f}"
        self._bar.set_postfix(self._said, refresh=False)
        self._bar.update(max(0, steps - self._bar.n))

    def note(self, against: float) -> None:
        """Say how the policy compares with MJOA-MU."""
        self._said["latency against mjoa-mu"] = f"{100 * against:+.1f} %"


class Stop:
    """Turns the first SIGINT into a wish; the second one ends the program as usual."""

    def __init__(self) -> None:
        self.asked = False
        self._usual: Any = None

    def __enter__(self) -> Stop:
        self._usual = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._usual)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._usual)
        tqdm.write("saving at the end of this update; press again to stop at once")

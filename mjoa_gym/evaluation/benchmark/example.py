"""The effect of parallel uploading on one inference: a picture, and an interactive page."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure

from mjoa_gym.evaluation.benchmark.results import OUR_WORLD, THEIR_WORLD
from mjoa_gym.evaluation.benchmark.suite import Suite
from mjoa_gym.evaluation.decision_time import first_instance
from mjoa_gym.evaluation.exploration import answers_of
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model import radio
from mjoa_gym.model.instance import Instance, timelines
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.planners import plan_with, planner_names
from mjoa_gym.rendering import gantt_figure
from mjoa_gym.rendering.interactive import timeline_html
from mjoa_gym.world.scenario import Scenario

CANDIDATES = 16


class Example(NamedTuple):
    """The inference of a single UE with parallel uploading, and the plans that are shown for it.

    These are an earlier system's plan with serial uploading, the same plan with parallel uploading,
    and our plan.
    """

    suite: Suite
    instance: Instance
    earlier: str
    shown: tuple[Timeline, ...]

    @property
    def caption(self) -> str:
        """The caption of the picture."""
        return (
            f"One UE alone on a band of {self.instance.bandwidth_hz / 1e6:g} MHz: of {CANDIDATES} "
            "random ones, the one with the largest reduction. Serial uploading leaves the uplink "
            "idle while layers execute."
        )

    def figure(self) -> Figure:
        """Draw the three timelines."""
        titles = (
            f"{self.instance.ues[0].dnn.name}, {self.earlier}, serial uploading",
            "the same placement, parallel uploading",
            f"{self.suite.ours}, parallel uploading",
        )
        return gantt_figure(self.shown, titles, width=1040)

    def page(self) -> str:
        """Return a page with the timelines of all the suite's planners, in both worlds."""
        suite, ue, band = self.suite, self.instance.ues[0], self.instance.bandwidth_hz
        names = dict.fromkeys((suite.ours, self.earlier, *suite.earlier, suite.reference))
        known = [name for name in names if name in planner_names()]
        answers = answers_of(self.instance, known, (OUR_WORLD, THEIR_WORLD))
        uplink_bps = float(radio.uplink_bps(band, 1.0, ue.snr_up))
        downlink_bps = float(radio.downlink_bps(band, 1.0, ue.snr_down))
        return timeline_html(
            ue.dnn,
            {key: answer.timeline for key, answer in answers.items()},
            uplink_bps,
            title=f"{ue.dnn.name}: serial against parallel uploading",
            subtitle=(
                f"One UE alone, {uplink_bps / 1e6:.0f} Mbit/s up, {downlink_bps / 1e6:.0f} Mbit/s "
                f"down, {ue.local_s:.3g} s on the UE alone. Every planner plans anew for each way "
                "of uploading."
            ),
            compare_with=(THEIR_WORLD, self.earlier),
        )


def find_example(suite: Suite) -> Example:
    """Find the random inference on which our plan gains most over the best serial plan."""
    earlier = "dads-serial" if "dads-serial" in planner_names() else suite.reference
    scenario = Scenario(n_ues=1, rounds=1)
    found = []
    for index in bar(range(CANDIDATES), desc="finding an example", leave=False):
        serial, parallel = (
            first_instance(scenario.with_changes(upload=world), index)
            for world in (THEIR_WORLD, OUR_WORLD)
        )
        theirs, ours = plan_with(earlier, serial), plan_with(suite.ours, parallel)
        pairs = (serial, theirs), (parallel, theirs), (parallel, ours)
        shown = tuple(timelines(*pair)[0] for pair in pairs)
        found.append(Example(suite, parallel, earlier, shown))
    return min(found, key=lambda example: example.shown[2].latency / example.shown[0].latency)

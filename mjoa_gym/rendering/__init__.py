"""A round as a picture: a Gantt chart per UE, as a figure, as RGB frames or as text.

Every UE has four lanes - processor, uplink, edge share, downlink - on one common time axis, so that
uploads are seen to overlap execution. Matplotlib is imported only when a picture is drawn; its Agg
canvas is used directly, without a display and without pyplot's global state.
"""

from mjoa_gym.rendering.chart import gantt_figure, gantt_height, gantt_rgb
from mjoa_gym.rendering.style import LANES, STYLES, Style, overlap
from mjoa_gym.rendering.text import gantt_text

__all__ = [
    "LANES",
    "STYLES",
    "Style",
    "gantt_figure",
    "gantt_height",
    "gantt_rgb",
    "gantt_text",
    "overlap",
]

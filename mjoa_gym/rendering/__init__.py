"""Pictures of rounds: an environment's rounds as RGB frames or as text, and timelines as figures.

Every UE has four lanes - processor, uplink, edge share, downlink - on one common time axis, which
shows how uploads overlap execution. The UE's parameters on the server are next to the lanes. Single
inferences can also be drawn as an interactive page (`timeline_html`, which needs plotly instead).
Matplotlib is imported only when a picture is drawn, without a display and without pyplot's global
state.
"""

from mjoa_gym.rendering.chart import gantt_figure
from mjoa_gym.rendering.interactive import timeline_html
from mjoa_gym.rendering.picture import MOST_DRAWN, scene_frames, scene_rgb
from mjoa_gym.rendering.scene import Memory, Scene, Stock
from mjoa_gym.rendering.style import LANES, STYLES, Style, overlap
from mjoa_gym.rendering.text import gantt_text, scene_text

__all__ = [
    "LANES", "MOST_DRAWN", "STYLES", "Memory", "Scene", "Stock", "Style", "gantt_figure",
    "gantt_text", "overlap", "scene_frames", "scene_rgb", "scene_text", "timeline_html",
]  # fmt: skip

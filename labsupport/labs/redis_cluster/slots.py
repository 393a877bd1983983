"""A picture of a cluster's slots: which node has which, and where keys fall."""

from collections import Counter
from collections.abc import Mapping, Sequence

from redis.crc import key_slot

from labsupport.charts import ROLES, LabFigure, Size, style
from labsupport.charts.sheet import Sheet
from labsupport.charts.style import INK, MUTED
from labsupport.servers.cluster import SLOTS, Cluster

_SHADES = ("#eef3f7", "#dbe6ee")  # of neighbours
_LOOKS = ("work", "second", "good")


def draw_slots(cluster: Cluster, keys: Mapping[str, Sequence[str]], *, title: str) -> LabFigure:
    """Draw the slots from left to right, each node's part shaded, and keys where they fall.

    Args:
        cluster: whose nodes have the slots.
        keys: groups of keys by name, a row each.
        title: the finding.
    """
    parts = cluster.slots()
    with style():
        sheet = Sheet([0.75 * len(keys)], [(1.3, 1.3)], title=title, top=0.95)
        ((axes,),) = sheet.grid
        for place, (first, last, node) in enumerate(parts):
            axes.axvspan(first, last + 1, color=_SHADES[place % 2], linewidth=0, zorder=0)
            middle = (first + last) / 2, 1.03
            axes.annotate(
                f"node {node + 1}", middle, xycoords=("data", "axes fraction"), ha="center",
                fontsize=Size.LABEL, color=INK, annotation_clip=False,
            )  # fmt: skip
        for row, group in enumerate(keys.values()):
            look = ROLES[_LOOKS[row % len(_LOOKS)]]
            slots = [key_slot(key.encode()) for key in group]
            (dots,) = axes.plot(slots, [row] * len(slots), linestyle="", marker=look.marker)
            dots.set(color=look.colour, markersize=9, markeredgecolor="white", clip_on=False)
            axes.axhline(row, color=MUTED, linewidth=0.8, zorder=1)
        axes.set_yticks(range(len(keys)), list(keys), fontsize=Size.LABEL)
        axes.set(xlim=(0, SLOTS), ylim=(len(keys) - 0.5, -0.5))
        axes.set_xticks([0, 5461, 10_923, SLOTS], ["0", "5,461", "10,923", "16,384"])
        axes.set_xlabel("hash slot", fontsize=Size.LABEL)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False)
        sheet.figure.alt = f"{title}. The slots by node, and keys: {_told(keys)}."
        return sheet.fit()


def _told(keys: Mapping[str, Sequence[str]]) -> str:
    counts = {
        name: len(Counter(key_slot(key.encode()) for key in group)) for name, group in keys.items()
    }
    return ", ".join(
        f"{len(keys[name])} {name} in {slots} {'slot' if slots == 1 else 'slots'}"
        for name, slots in counts.items()
    )

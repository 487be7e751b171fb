"""What benchmarks/scale.py has measured, as a table and as a picture."""

STAGES = ("summary", "encode", "epoch", "sample")


def tell(axis, points):
    """Print a table of CPU seconds and peak memory, with the slopes of log(CPU seconds)."""
    import numpy as np

    sizes = sorted({point["size"] for point in points})
    of = {(point["size"], point["stage"]): point for point in points}
    print(f"\n| {axis} | " + " | ".join(f"{s}, CPU s | {s}, MB" for s in STAGES) + " |")
    print("|" + "---|" * (1 + 2 * len(STAGES)))
    for size in sizes:
        cells = [of.get((size, stage), {}) for stage in STAGES]
        cells = [f"{c.get('cpu_s', '')} | {c.get('peak_mb', '')}" for c in cells]
        print(f"| {size} | " + " | ".join(cells) + " |")
    for name, chosen in (("exponent of all", sizes), ("of the last two", sizes[-2:])):
        slopes = []
        for stage in STAGES:
            pairs = [(n, of[n, stage]["cpu_s"]) for n in chosen if (n, stage) in of]
            x, y = np.log(np.maximum(np.array(pairs or [(1, 1)], dtype=float), 1e-3)).T
            slopes.append(f"{np.polyfit(x, y, 1)[0]:.2f} |" if len(pairs) > 1 else "|")
        print(f"| {name} | " + " | ".join(slopes) + " |")


def draw(points, names, path):
    """CPU seconds above peak memory, an axis of tables beside the other."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (4 * len(names), 6)
    figure, panels = plt.subplots(2, len(names), figsize=size, squeeze=False, sharex="col")
    for column, axis in enumerate(names):
        for stage in STAGES:
            own = [p for p in points if p["axis"] == axis and p["stage"] == stage]
            sizes, of_each = [p["size"] for p in own], {"ms": 3, "label": stage}
            panels[0, column].loglog(sizes, [p["cpu_s"] for p in own], "o-", **of_each)
            panels[1, column].semilogx(sizes, [p["peak_mb"] for p in own], "o-", **of_each)
        panels[1, column].set_ylim(bottom=0)
        panels[1, column].set_xlabel(axis)
    panels[0, 0].set_ylabel("CPU seconds")
    panels[1, 0].set_ylabel("peak memory of the process, MB")
    panels[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    print(f"drawn to {path}")

"""One figure of a benchmark: what, how much, what was aimed at; and the table that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A measured value. `below`/`above`: the target, where there is one (exclusive)."""

    name: str
    value: float
    unit: str = ""
    below: float | None = None
    above: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.below is not None:
            return self.value < self.below
        return None if self.above is None else self.value > self.above

    @property
    def target(self) -> str:
        if self.below is not None:
            return f"< {shown(self.below)}"
        return "" if self.above is None else f"> {shown(self.above)}"


def shown(value: float) -> str:
    """Three digits that count."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def table(groups: dict[str, Iterable[Figure]]) -> str:
    """Figures by benchmark, as aligned text."""
    rows: list[tuple[str, ...]] = []
    for bench, figures in groups.items():
        rows.append((bench, "", "", "", ""))
        for figure in figures:
            word = {True: "ok", False: "MISSED", None: ""}[figure.met]
            value = f"{shown(figure.value)} {figure.unit}".strip()
            rows.append((f"  {figure.name}", value, figure.target, word, figure.note))
    widths = [max(len(row[i]) for row in rows) for i in range(5)] if rows else []
    lines = []
    for row in rows:
        name, value, target, word, note = row
        text = f"{name:<{widths[0]}}  {value:>{widths[1]}}  {target:<{widths[2]}}  {word:<{widths[3]}}  {note}"
        lines.append(text.rstrip())
    return "\n".join(lines)

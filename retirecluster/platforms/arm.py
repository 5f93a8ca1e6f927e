"""Names of ARM cores: /proc/cpuinfo gives the numbers that their makers gave them."""

from __future__ import annotations

from collections.abc import Iterable

PARTS = {
    ("0x41", "0xb76"): "ARM1176",
    ("0x41", "0xc05"): "Cortex-A5",
    ("0x41", "0xc07"): "Cortex-A7",
    ("0x41", "0xc08"): "Cortex-A8",
    ("0x41", "0xc09"): "Cortex-A9",
    ("0x41", "0xc0d"): "Cortex-A12",
    ("0x41", "0xc0f"): "Cortex-A15",
    ("0x41", "0xc0e"): "Cortex-A17",
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x51", "0x800"): "Kryo 2xx Gold",
    ("0x51", "0x801"): "Kryo 2xx Silver",
    ("0x51", "0x802"): "Kryo 385 Gold",
    ("0x51", "0x803"): "Kryo 385 Silver",
    ("0x51", "0x804"): "Kryo 485 Gold",
    ("0x51", "0x805"): "Kryo 485 Silver",
}
"""(implementer, part) as the main identification register has them."""


def core_names(said: Iterable[tuple[str, str]]) -> str | None:
    """The kinds of cores in the lines (name, value) of /proc/cpuinfo, as `4x Cortex-A55 + 4x Cortex-A76`."""
    counts: dict[str, int] = {}
    maker = ""
    for name, value in said:
        if name == "CPU implementer":
            maker = value.lower()
        elif name == "CPU part":
            known = PARTS.get((maker, value.lower()))
            if known is not None:
                counts[known] = counts.get(known, 0) + 1
    if not counts:
        return None
    return " + ".join(f"{count}x {name}" if count > 1 else name for name, count in counts.items())

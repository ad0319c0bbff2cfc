"""docs/scale.md against what was measured, and how its exponents are found."""

from __future__ import annotations

import pytest

from docs.building.scale import PAGE, TABLE, WRITTEN, Measured, measured, page


def lines(exponent: float) -> dict[int, dict[str, float]]:
    """A command that takes 3 s and 100 MiB, and per image 1 ms (at exponent 1) and 1 KiB more."""
    return {
        n: {"cpu": 3 + 1e-3 * (n - 512) ** exponent, "own_mib": 100 + (n - 512) / 1024}
        for n in (512, 2_000, 8_000, 32_000, 128_000, 1_000_000)
    }


def test_the_tables_are_what_the_script_writes():
    text = PAGE.read_text(encoding="utf-8")
    assert {found[1] for found in TABLE.findall(text)} == set(WRITTEN)
    assert page(text, measured()) == text, "type python -m docs.building.scale"


@pytest.mark.parametrize("exponent", [1.0, 1.2])
def test_exponents_and_bytes_of_made_up_measurements(exponent: float):
    phase = Measured("parse", lines(exponent))
    factor, found = phase.fit() or (0, 0)
    assert found == pytest.approx(exponent) and factor == pytest.approx(1e-3)
    assert phase.each(128_000) == pytest.approx(1024)
    # The largest is said by those before it; a million by all up to 128,000.
    assert phase.predicted(128_000, 32_000) == pytest.approx(phase.lines[128_000]["cpu"])
    assert phase.predicted(1_000_000) == pytest.approx(phase.lines[1_000_000]["cpu"])
    assert phase.memory(1_024_000) == pytest.approx(1100)


def test_what_is_lost_in_imports_has_no_exponent():
    phase = Measured("again", {n: {"cpu": 3.0 + n * 1e-6, "own_mib": 1} for n in (512, 2000, 8000)})
    assert phase.fit() is None
    assert phase.predicted(16_000) == pytest.approx(3 + 512e-6 + 2 * 7488e-6)

"""The pictures of the pages show what the program writes."""

from __future__ import annotations

import pytest

from scripts.pictures import FOLDER, SCENES, take


@pytest.mark.parametrize("name", SCENES)
def test_every_picture_is_there_and_says_what_it_shows(name: str) -> None:
    drawn = (FOLDER / f"{name}.svg").read_text()
    assert f'aria-label="{SCENES[name].label}"' in drawn
    assert "http" not in drawn.replace("http://www.w3.org/", "").replace("https://www.textualize.io", "")


def test_a_picture_is_what_the_command_writes_now() -> None:
    name = "an-error-says-what-to-do"  # has neither times nor ids in it
    assert take(SCENES[name]) == (FOLDER / f"{name}.svg").read_text()

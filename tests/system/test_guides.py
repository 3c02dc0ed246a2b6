"""The guides are true: their commands run in the order in which they stand, and print what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guides import RUN, SHOWN, Block, page, pages
from tests.stores import Store, moto_store
from tests.system.guide_scenes import SCENES, Scene, opened
from tests.system.guide_world import plain, replay


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """One for all: each scene has a prefix of its own."""
    with moto_store() as made:
        yield made


def blocks(scene: Scene) -> list[Block]:
    return [block for block in page(scene.page).blocks if block.section in scene.sections and block.language in (RUN, SHOWN)]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.page}-{scene.sections[-1]}")
def test_commands_do_what_the_guides_say(tmp_path: Path, store: Store, scene: Scene) -> None:
    """Those whose output is shown print it, but for times, ids and sizes; the others end as they should."""
    with opened(scene, tmp_path, store) as world:
        for block in blocks(scene):
            seen = replay(world, block.steps)
            if block.language == RUN:
                assert [step for step, told in zip(seen, block.steps, strict=True) if step.code != told.code] == []
            else:
                assert "".join(f"$ {command}{plain(output)}\n" for command, output, _ in seen) == "".join(
                    f"$ {command}{plain(output)}\n" for command, output in block.steps
                )
        scene.require(world)


def test_every_command_has_its_scene() -> None:
    """No section with commands is left out, and none is in two scenes."""
    there = sorted({(each.name, block.section) for each in pages() for block in each.blocks if block.language in (RUN, SHOWN)})
    assert sorted((scene.page, section) for scene in SCENES for section in scene.sections) == there

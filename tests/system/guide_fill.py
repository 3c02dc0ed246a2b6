"""`python -m tests.system.guide_fill`: writes into the guides what their commands print today. To be read before it is committed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.guides import RUN, SHOWN, page, path_of
from tests.stores import moto_store
from tests.system.guide_scenes import SCENES, opened
from tests.system.guide_world import plain, replay


def main() -> None:
    with moto_store() as store:
        for scene in SCENES:
            text = page(scene.page).text
            with tempfile.TemporaryDirectory() as root, opened(scene, Path(root), store) as world:
                for block in page(scene.page).blocks:
                    if block.section in scene.sections and block.language in (RUN, SHOWN):
                        seen = replay(world, block.steps)
                        same = [plain(a.output) for a in seen] == [plain(b.output) for b in block.steps]
                        if block.language == SHOWN and not same:
                            text = text.replace(
                                f"```{SHOWN}\n{block.text}",
                                f"```{SHOWN}\n" + "".join(f"$ {command}{output}" for command, output, _ in seen),
                                1,
                            )
            path_of(scene.page).write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""The files of a Hugging Face Space that serves the page: a program, its requirements, and the header that the Hub reads."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path
from string import Template

from ccr_adapters import __version__
from ccr_adapters.demo.names import name_of
from ccr_adapters.demo.world import PICTURES
from ccr_adapters.errors import ConfigError

_APP = Template('''\
"""Search pictures in $names: the page of ccr-adapters as a Space."""

from pathlib import Path

from ccr_adapters import CCRModel
from ccr_adapters.demo import build_page, launch
from ccr_adapters.demo.gallery import open_world
from ccr_adapters.demo.world import world_captions, world_questions

HERE = Path(__file__).parent

model = CCRModel.from_base("tiny_clip")
for adapter in sorted((HERE / "adapters").iterdir()):
    model.load_language(adapter)
page = build_page(
    model.eval(),
    open_world(model, HERE / "pictures", $pictures),
    world_captions(model.languages, $pictures),
    questions=world_questions(model.languages),
    about="$pictures rendered pictures, encoded by a tiny English-only CLIP.",
)

if __name__ == "__main__":
    launch(page)
''')

_README = Template("""\
---
title: Search pictures in $names
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: "$gradio"
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: Search in languages that CLIP never learned
---

An English-only CLIP that learned $names from machine-translated captions alone, with a small adapter per language (`adapters/`)
and not a word of the base changed. The pictures are those of the tiny world that comes with
`ccr-adapters`; they are rendered and indexed when the Space starts.

For pictures and adapters of your own, `app.py` is the place: `CCRModel.from_pretrained("you/your-adapter")`, and
`Collection.open("photos.index")` instead of `open_world(...)`.
""")


def write_space(
    folder: Path, adapters: Sequence[Path], languages: Sequence[str], *, pictures: int = PICTURES
) -> list[Path]:
    """Write a Space into a folder.

    Args:
        folder: A new folder, or an empty one.
        adapters: Folders of adapters for the packaged base; they are copied.
        languages: Their codes, in the same order.
        pictures: How many it shows.

    Returns:
        The files that were written at the top.

    Raises:
        ConfigError: If there is something in the folder, or it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"'{folder}' is there already. A Space is written into a new folder, or an empty one.")
    *most, last = map(name_of, languages)
    names = f"{', '.join(most)} and {last}" if most else last
    values = {"names": names, "pictures": str(pictures), "gradio": importlib.metadata.version("gradio")}
    files = {
        "app.py": _APP.substitute(values),
        "requirements.txt": f"ccr-adapters[demo]>={__version__}\n",
        "README.md": _README.substitute(values),
        # pictures and index are made again wherever it runs
        ".gitignore": "pictures/\n__pycache__/\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for code, adapter in zip(languages, adapters, strict=True):
            shutil.copytree(adapter, folder / "adapters" / code)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The Space cannot be written to '{folder}': {error}") from error
    return [folder / name for name in files]

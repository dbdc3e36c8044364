"""The floors of the house, enforced: who may import whom, no cycles, and what must not appear in the library.

    floor 6   __main__.py
    floor 5   cli/
    floor 4   serving/   demo/
    floor 3   training/   evaluation/   hub/   export/   search/   translation/   corpora/
    floor 2   processing/   modeling/   methods/
    floor 1   data/   objectives/   dasd/   full/   configuration.py
    floor 0   errors.py   extras.py   pixels.py   protocols.py

A file imports lower floors and earlier files of its own room. Rooms of one floor do not know each other: they
meet through files and protocols. Imports inside functions and under `TYPE_CHECKING` count. Every check is
also shown to fail, on a few lines written for it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "ccr_adapters"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE

FLOORS = (
    ("errors", "extras", "pixels", "protocols"),
    ("data", "objectives", "dasd", "full", "configuration"),
    ("processing", "modeling", "methods"),
    ("training", "evaluation", "hub", "export", "search", "translation", "corpora"),
    ("serving", "demo"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# A room that may import a neighbour on its own floor: an exception, to be written with its reason.
NEIGHBOURS: dict[str, set[str]] = {
    # two methods of peft, one way to find the blocks of an encoder and into peft's registry
    "full": {"dasd"},
    # floor 2 is laid out as the data flow: what makes tensors, what encodes them, what trains on them
    "modeling": {"processing"},
    "methods": {"modeling"},
}
# Rooms that could move into another project unchanged say what they need.
LIBRARIES_OF = {"dasd": {"torch", "peft"}, "full": {"torch", "peft"}, "objectives": {"torch"}}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve"}
TALKATIVE = {"cli", "demo"}  # programs, which may print


def read_sources(root: Path) -> dict[str, str]:
    """Module name -> source of every file below a package folder; a package has the name of its folder."""
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def room_of(module: str) -> str:
    """`ccr_adapters.data.schema` -> `data`; the package itself has no room."""
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str, source: str, modules: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """Yield every imported module and its line, wherever in the file the import stands."""
    is_package = any(name.startswith(f"{module}.") for name in modules)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                if base == PACKAGE and alias.name == "__version__":
                    continue  # a constant of the first lines, there before anything is imported
                inner = f"{base}.{alias.name}"
                yield (inner if inner in modules else base, node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((a.value, node.lineno) for a in node.args if isinstance(a, ast.Constant))


def floor_violations(sources: Mapping[str, str], neighbours: Mapping[str, set[str]] = NEIGHBOURS) -> list[str]:
    """Imports that go up, or sideways into another room of the same floor."""
    found = []
    for module, source in sources.items():
        if module == PACKAGE:
            continue  # the lazy exports see every room, and no room may see them
        room = room_of(module)
        if room not in FLOOR_OF:
            found.append(f"{module}: {room!r} has no floor")
            continue
        for name, line in imports_of(module, source, sources):
            if name.split(".")[0] != PACKAGE:
                continue
            other = room_of(name)
            floor = FLOOR_OF.get(other, len(FLOORS))
            allowed = neighbours.get(room, set()) | {room}
            if floor > FLOOR_OF[room] or (floor == FLOOR_OF[room] > 0 and other not in allowed):
                found.append(f"{module}:{line} imports {name}")
    return found


def cycle(sources: Mapping[str, str]) -> list[str]:
    """The modules of one import cycle, or nothing."""
    graph = {
        module: {name for name, _ in imports_of(module, source, sources) if name in sources}
        for module, source in sources.items()
        if module != PACKAGE
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def foreign_libraries(sources: Mapping[str, str]) -> list[str]:
    """Third-party imports of a room that promised to do without them."""
    found = []
    for module, source in sources.items():
        allowed = LIBRARIES_OF.get(room_of(module))
        if allowed is None:
            continue
        for name, line in imports_of(module, source, sources):
            top = name.split(".")[0]
            if top not in allowed | {PACKAGE} | sys.stdlib_module_names:
                found.append(f"{module}:{line} imports {name}")
    return found


def _forbidden(node: ast.AST) -> str | None:
    """Say what is wrong with one node, if anything."""
    match node:
        case ast.Call(func=ast.Name(id="print")):
            return "print"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=keywords):
            # other people's checkpoints are read, and nothing in them is run
            plain = any(word.arg == "weights_only" and getattr(word.value, "value", None) is True for word in keywords)
            return None if plain else "torch.load"
        case ast.Call(func=func, keywords=keywords) if ast.unparse(func) != "zip":
            for keyword in keywords:
                if keyword.arg == "strict" and getattr(keyword.value, "value", None) is False:
                    return "strict=False"
        case ast.Import(names=names) if any(alias.name.split(".")[0] in PICKLES for alias in names):
            return "pickle"
        case ast.ImportFrom(module="pickle", names=names) if all(alias.name == "UnpicklingError" for alias in names):
            return None
        case ast.ImportFrom(module=str(name)) if name.split(".")[0] in PICKLES:
            return "pickle"
        case ast.ImportFrom(module="torch", names=names) if any(alias.name == "load" for alias in names):
            return "torch.load"
        case ast.ExceptHandler(type=None):
            return "bare except"
        case ast.ExceptHandler(type=ast.expr() as kind):
            names = {child.id for child in ast.walk(kind) if isinstance(child, ast.Name)}
            if names & {"Exception", "BaseException"}:
                return "except Exception"
        case ast.Assert():
            return "assert"
    return None


def forbidden_things(sources: Mapping[str, str]) -> list[str]:
    """What must not appear in the library, with its line."""
    found = []
    for module, source in sources.items():
        tree = ast.parse(source)
        if not ast.get_docstring(tree):
            found.append(f"{module}:1 no module docstring")
        for node in ast.walk(tree):
            what = _forbidden(node)
            if what and not (what == "print" and room_of(module) in TALKATIVE):
                found.append(f"{module}:{getattr(node, 'lineno', 0)} {what}")
    return found


SOURCES = read_sources(SOURCE)


def test_the_sources_were_found():
    assert {PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.dasd.model"} <= SOURCES.keys()


def test_files_import_lower_floors_and_their_own_room():
    assert floor_violations(SOURCES) == []


def test_no_import_cycles():
    assert cycle(SOURCES) == []


def test_rooms_that_could_move_need_what_they_say():
    assert foreign_libraries(SOURCES) == []


def test_nothing_forbidden():
    assert forbidden_things(SOURCES) == []


def fake(**files: str) -> dict[str, str]:
    """Sources as `read_sources` gives them; `data__schema` stands for `ccr_adapters.data.schema`."""
    return {PACKAGE: "", **{f"{PACKAGE}.{name.replace('__', '.')}": source for name, source in files.items()}}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("data__schema", "from ccr_adapters.training.trainer import Trainer"),
        ("data__schema", "import ccr_adapters.modeling.model"),
        ("data__schema", "from ccr_adapters.objectives import info_nce"),
        ("training__trainer", "from ccr_adapters.evaluation.ranks import ranks"),
        ("training__trainer", "from ccr_adapters import evaluation"),
        ("training__trainer", "from ..evaluation.ranks import ranks"),
        ("training__trainer", "def f():\n    from ccr_adapters.hub import push"),
        ("training__trainer", "if TYPE_CHECKING:\n    from ccr_adapters.search import Index"),
        ("training__trainer", "importlib.import_module('ccr_adapters.cli.main')"),
        ("training__trainer", "from ccr_adapters import CCRModel"),
        ("errors", "from ccr_adapters.data import schema"),
        ("attic__things", "x = 1"),
    ],
)
def test_an_import_up_or_sideways_is_found(module, line):
    others = dict.fromkeys(("evaluation", "evaluation__ranks", "training", "data"), "")
    assert len(floor_violations(fake(**others) | fake(**{module: line}))) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("data__schema", "from ccr_adapters.errors import DataError"),
        ("data__schema", "from ccr_adapters.data.columns import map_columns"),
        ("data__schema", "from .columns import map_columns"),
        ("extras", "from ccr_adapters.errors import MissingExtraError"),
        ("training__trainer", "from ccr_adapters.modeling import CCRModel\nimport torch"),
        ("hub__card", "from ccr_adapters import __version__"),
    ],
)
def test_an_import_down_or_at_home_is_fine(module, line):
    others = dict.fromkeys(("errors", "data", "data__columns", "modeling"), "")
    assert floor_violations(fake(**others) | fake(**{module: line})) == []


def test_an_exception_holds_for_one_neighbour_in_one_direction():
    sources = fake(
        modeling="from ccr_adapters.processing import CCRProcessor\nfrom ccr_adapters.methods import dasd",
        processing="from ccr_adapters.modeling import CCRModel",
        methods="",
    )
    assert len(floor_violations(sources, {})) == 3
    assert floor_violations(sources, {"modeling": {"processing"}}) == [
        "ccr_adapters.modeling:2 imports ccr_adapters.methods",
        "ccr_adapters.processing:1 imports ccr_adapters.modeling",
    ]


def test_a_cycle_is_found():
    sources = fake(
        data="from ccr_adapters.data.schema import Row",
        data__schema="def f():\n    from ccr_adapters.data import columns",
        data__columns="from . import schema",
    )
    assert set(cycle(sources)) == {"ccr_adapters.data.schema", "ccr_adapters.data.columns"}
    assert cycle(sources | fake(data__columns="")) == []


def test_a_foreign_library_is_found():
    sources = fake(objectives__contrastive="import math\nimport torch\nfrom transformers import Trainer")
    assert foreign_libraries(sources) == ["ccr_adapters.objectives.contrastive:3 imports transformers"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("print('hello')", "print"),
        ("state = torch.load(path)", "torch.load"),
        ("state = torch.load(path, weights_only=False)", "torch.load"),
        ("from torch import load", "torch.load"),
        ("model.load_state_dict(state, strict=False)", "strict=False"),
        ("import pickle", "pickle"),
        ("from cloudpickle import loads", "pickle"),
        ("from pickle import UnpicklingError, loads", "pickle"),
        ("try:\n    f()\nexcept:\n    pass", "bare except"),
        ("try:\n    f()\nexcept Exception:\n    pass", "except Exception"),
        ("try:\n    f()\nexcept (OSError, BaseException) as e:\n    pass", "except Exception"),
        ("assert rows, 'no rows'", "assert"),
    ],
)
def test_a_forbidden_thing_is_found(source, what):
    found = forbidden_things(fake(data__schema=f'"""Doc."""\n{source}') | {PACKAGE: '"""Doc."""'})
    assert [line.split(" ", 1)[1] for line in found] == [what]


def test_a_missing_docstring_is_found():
    sources = {PACKAGE: '"""Doc."""', f"{PACKAGE}.errors": "x = 1"}
    assert forbidden_things(sources) == ["ccr_adapters.errors:1 no module docstring"]


def test_allowed_look_alikes_pass():
    source = '"""Doc."""\nfor a in zip(x, y, strict=False):\n    log.info("print")\n'
    source += "try:\n    load(a)\nexcept OSError:\n    pass\n"
    source += "from pickle import UnpicklingError\ntorch.load(path, weights_only=True)"
    program = '"""Doc."""\nprint("done")'
    assert forbidden_things({PACKAGE: source, f"{PACKAGE}.cli.main": program}) == []

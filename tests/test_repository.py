"""What stands around the code keeps together: versions, dependencies, the model card, the commands."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from string import Template

import yaml
from huggingface_hub import ModelCard

import ccr_adapters
from ccr_adapters.data.benchmarks import BENCHMARKS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
CARD = Template((ROOT / "model_cards" / "template.md").read_text(encoding="utf-8"))
# Where a library is imported by another name than it is installed by.
INSTALLED_AS = {"PIL": "pillow", "yaml": "pyyaml"}


def normalised(name: str) -> str:
    """The name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> dict[str, set[str]]:
    """`core` and each extra -> the names that it installs; extras of the package's own are lists of their own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"core": project["dependencies"], **project["optional-dependencies"]}
    named = {group: {normalised(re.match(r"[\w.-]+", item)[0]) for item in items} for group, items in lists.items()}
    return {group: names - {"ccr-adapters"} for group, names in named.items()}


def test_extras_that_extras_ask_for_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for items in extras.values():
        for item in items:
            own = re.fullmatch(r"ccr-adapters\[([\w,-]+)\]", item)
            assert own is None or set(own[1].split(",")) <= set(extras)


def test_every_extra_that_a_message_names_exists():
    extras = requirements()
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for names in re.findall(r"ccr-adapters\[([\w,-]+)\]", text) + re.findall(r'require\(.*extra="(\w+)"', text):
            assert set(names.split(",")) <= set(extras), path


def pins() -> list[tuple[str, str]]:
    """Name and environment marker of each line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = [re.fullmatch(r"([\w.-]+)==[\w.]+(?:; (.+))?", line) for line in lines if line[:1] not in ("", "#")]
    return [(normalised(match[1]), match[2] or "") for match in matches]


def test_every_requirement_has_a_tested_version():
    assert set().union(*requirements().values()) <= {name for name, _ in pins()}


def test_no_version_is_pinned_twice_for_one_python():
    assert len(set(pins())) == len(pins())
    always = {name for name, marker in pins() if not marker}
    assert always & {name for name, marker in pins() if marker} == set()


def test_every_library_imported_at_the_top_of_a_file_is_a_requirement():
    core = requirements()["core"]
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            foreign = {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"ccr_adapters"}
            missing = {normalised(INSTALLED_AS.get(name, name)) for name in foreign} - core
            assert not missing, f"{path.name} imports {missing}: add to the dependencies, or use extras.require"


def test_the_page_on_evaluation_lists_every_benchmark():
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name, benchmark in BENCHMARKS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert (benchmark.hub.repository if benchmark.hub else "official files") in row


def test_the_changelog_knows_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = changelog.split(f"## [{ccr_adapters.__version__}]")[1].split("\n## ")[0]
    assert "### Tests" in section


def test_every_command_of_the_makefile_is_listed_by_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)[1].split()
    assert set(re.findall(r"^([a-z-]+):.* ## ", makefile, flags=re.MULTILINE)) == set(phony)


def filled_card() -> str:
    """The template with a sentence in each place, and JSON, which is YAML, in the front matter."""
    result = {
        "task": {"type": "text-to-image-retrieval", "name": "German captions to pictures"},
        "dataset": {"type": "tiny-world", "name": "Tiny world", "split": "test"},
        "metrics": [{"type": "recall_at_1", "value": 70.5}],
    }
    front = {
        "language_yaml": ["de"],
        "license_yaml": "apache-2.0",
        "base_model_yaml": "somebody/clip: a base",
        "datasets_yaml": ["tiny-world"],
        "tags_yaml": ["ccr-adapters", "dasd"],
        "model_index_yaml": [{"name": "DASD de", "results": [result]}],
    }
    values = {name: json.dumps(value) for name, value in front.items()}
    return CARD.substitute({name: values.get(name, f"some {name}") for name in identifiers()})


def identifiers() -> set[str]:
    """Every placeholder of the template; Template.get_identifiers is younger than Python 3.10."""
    return {match["named"] for match in CARD.pattern.finditer(CARD.template) if match["named"]}


def test_a_filled_card_is_one_the_hub_can_read():
    card = ModelCard(filled_card())
    assert card.data.language == ["de"]
    assert card.data.base_model == "somebody/clip: a base"
    assert card.data.library_name == "peft"
    assert card.data.eval_results[0].metric_value == 70.5
    assert "$" not in card.content


def test_the_front_matter_is_yaml_with_every_key_of_an_adapter_card():
    front = yaml.safe_load(filled_card().split("---\n")[1])
    assert front["base_model_relation"] == "adapter"
    assert {"license", "pipeline_tag", "datasets", "metrics", "tags", "model-index"} <= front.keys()


def test_the_snippet_of_the_card_is_python():
    code = re.search(r"```python\n(.+?)```", CARD.template, flags=re.DOTALL)[1]
    values = {"repository": "me/dasd-de", "language": "de", "example_captions": '"ein roter Kreis"'}
    values["in_language"] = ', language="de"'
    tree = ast.parse(Template(code).substitute(values))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(alias.name in ccr_adapters.__all__ for node in imported for alias in node.names)


def test_the_license_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text

"""Imports go one way, and asking for help costs nothing."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import glc_toolkit

PACKAGE = Path(glc_toolkit.__file__).parent
DATA = Path(__file__).parent / "data"
LAYERS = [
    {"hookspecs", "types", "paths", "facts", "mark", "memory", "progress", "lazy", "defaults"},
    {"registry", "coder"},
    {"components"},
    {"ahead", "bitstream", "colour", "timeline", "versions", "modelfolder"},
    {"stills"},
    {"io"},
    {"videostream", "footage", "frames"},
    {"clips", "ratecontrol"},
    {"models"},
    {"weights", "refine", "hub"},
    {"zoo"},
    {"api", "published", "onnx"},
    {"evaluation", "training", "conformance", "kit"},
    {"bulk", "doctor"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(file: Path) -> set[str]:
    """Top-level parts of glc_toolkit that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("glc_toolkit.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "glc_toolkit":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found & LEVEL.keys()


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_layers(file):
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    assert part in LEVEL, f"{part} has no layer: give it one in {Path(__file__).name}"
    above = {name for name in imported(file) if LEVEL[name] > LEVEL[part]}
    assert not above, f"{file.name} imports {above}, which lie above {part}"


FOLDERS = sorted(file.parent for file in PACKAGE.rglob("__init__.py") if file.parent != PACKAGE)


def neighbours(file: Path) -> set[str]:
    """Files of the same folder that a file imports anywhere, functions included."""
    here, found = ".".join(file.relative_to(PACKAGE.parent).parent.parts), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == here:
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module.removeprefix(f"{here}.")}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix(f"{here}.") for a in node.names}
    return found & {other.stem for other in file.parent.glob("*.py")} - {file.stem}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_files_of_a_folder_have_an_order(folder):
    graph = {file.stem: neighbours(file) for file in folder.glob("*.py") if file.stem != "__init__"}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_only_the_coder_knows_constriction():
    users = [f.name for f in PACKAGE.rglob("*.py") if "import constriction" in f.read_text()]
    assert users == ["coder.py"]


def test_nothing_loads_pickles():
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        assert "import pickle" not in text, file
        assert text.count("torch.load(") == text.count("weights_only=True"), file


@pytest.mark.parametrize(
    "code", ["import glc_toolkit", "import glc_toolkit.cli", "from glc_toolkit import registry; registry.manager()"]
)
def test_torch_is_not_imported_early(code):
    check = f"{code}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize(
    "file, says", [("glc-image-0.03@2-200x130.glc", "y pass 3"), ("glc-video-0.01@2.glv", "P frames")]
)
def test_info_imports_no_more_than_it_needs(file, says):
    heavy = [
        "torch._dynamo",
        "torch_geometric",
        "torchvision",
        "timm",
        "pandas",
        "sympy",
        "einx._src",
        "scipy.stats._mgc",
    ]
    code = f"""if True:
        import sys
        from glc_toolkit.cli import cli
        cli(["info", {str(DATA / file)!r}], standalone_mode=False)
        sys.exit(", ".join(name for name in {heavy} if name in sys.modules) or None)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and says in done.stdout, done.stderr


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        glc_toolkit.nonsense  # noqa: B018

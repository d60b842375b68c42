"""The import rule of docs/architecture.md, held by walking the syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, START_SECONDS

SOURCE = ROOT / "app"

LAYERS = (
    ("gsop.errors",),
    ("gsop.cpus", "gsop.cuda_options", "gsop.environment", "gsop.html", "gsop.keys", "gsop.logs"),
    ("gsop.paths",),
    ("gsop.settings",),
    ("gsop.processes", "gsop.images", "gsop.model", "gsop.reports"),
    ("gsop.gates",),
    ("gsop.store",),
    ("gsop.arena",),
    ("gsop.backends", "gsop.notebook"),
    ("gsop.engine", "gsop.inspection", "gsop.serving"),
    ("gsop.api", "gsop.train"),
    ("gsop.commands",),
    ("gsop.__main__",),
)
"""Lowest first. A module imports from its own part and from the layers below."""

TORCH = (
    "gsop.model",
    "gsop.train",
    "gsop.notebook",
    "gsop.store.store",
    "gsop.backends.answering",
    "gsop.backends.device_tally",
    "gsop.backends.fusing",
    "gsop.backends.graphs",
    "gsop.backends.kernels",
    "gsop.backends.pinned",
    "gsop.backends.bundles",
    "gsop.backends.openvino",
    "gsop.backends.packing",
    "gsop.backends.torch_cpu",
    "gsop.backends.torch_cuda",
    "gsop.backends.torch_device",
    "gsop.inspection.inspector",
    "gsop.inspection.process",
    "gsop.commands.inspect",
    "gsop.commands.publish",
    "gsop.commands.models.export",
    "gsop.commands.models.foreign",
    "gsop.commands.models.init",
    "gsop.commands.models.zoo",
)
TORCH_FREE_MODEL = ("gsop.model.config",)
"""What front processes may import of the model."""

MODULES = sorted((SOURCE / "gsop").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_in(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def layer_of(module: str) -> tuple[int, str] | None:
    for height, parts in enumerate(LAYERS):
        for part in parts:
            if is_in(module, part):
                return height, part
    return None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    module = name_of(path)
    if module == "gsop":
        return
    place = layer_of(module)
    assert place is not None, f"{module} is in no layer"
    height, part = place
    for imported in imports_of(path):
        target = layer_of(imported)
        if target is not None and target[1] != part:
            assert target[0] < height, f"{module} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torch_stays_where_it_belongs(path: Path) -> None:
    module = name_of(path)
    allowed = any(is_in(module, part) for part in TORCH) and module not in TORCH_FREE_MODEL
    if not allowed:
        imports = imports_of(path)
        assert not [i for i in imports if is_in(i, "torch") or is_in(i, "torchvision")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_fastapi_stays_in_the_api(path: Path) -> None:
    if not is_in(name_of(path), "gsop.api"):
        assert not [i for i in imports_of(path) if is_in(i, "fastapi") or is_in(i, "starlette")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_grpc_stays_where_it_is_wanted(path: Path) -> None:
    module = name_of(path)
    extra = ("grpc", "grpc_health", "grpc_reflection", "google.protobuf")
    if not module.startswith(("gsop.api.oip.grpc_", "gsop.api.oip.inference_pb2")):
        assert not [i for i in imports_of(path) if any(is_in(i, part) for part in extra)]


@pytest.mark.parametrize(
    "module",
    [
        "gsop.api.http.front",
        "gsop.engine.process",
        "gsop.serving.supervisor",
        "gsop.commands.serve",
        "gsop.__main__",
        "gsop.commands.models.list",
    ],
)
def test_what_runs_beside_the_engine_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=START_SECONDS)


def test_what_is_quick_imports_no_torch() -> None:
    command = [sys.executable, "-m", "pytest", "--quick", "--collect-only", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_benchmarks_stand_without_the_tests() -> None:
    folder = ROOT / "benchmarks"  # what the peers bring lies in .peers
    modules = [
        path for path in folder.rglob("*.py") if path.relative_to(folder).parts[0] != ".peers"
    ]
    assert modules
    assert not [path for path in modules if any(is_in(i, "tests") for i in imports_of(path))]

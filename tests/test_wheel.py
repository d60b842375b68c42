"""The wheel serves the model that it carries, in a folder that holds nothing else."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import gsop
from tests.support import ROOT, Server

pytestmark = pytest.mark.slow

UV = str(Path(sys.executable).with_name("uv"))
SOURCES = ("app", "model_store", "pyproject.toml", "README.md", "LICENSE")
SEVEN = ROOT / "examples" / "digits" / "7.png"


def environment() -> dict[str, str]:
    """This process's, without what would lead to the checkout or change a setting."""
    away = ("GSOP_", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(away)}


def call(*command: str | Path, folder: Path) -> str:
    """What the command prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that was built from it; of a copy, as building leaves files."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy)
        else:
            left = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=left)
    call(UV, "build", "--quiet", "--out-dir", copy / "dist", folder=copy)
    return copy / "dist"


@dataclass(frozen=True)
class Installed:
    """Where the wheel is installed, and the empty folder to work in."""

    scripts: Path
    folder: Path

    def gsop(self, *arguments: str) -> str:
        return call(self.scripts / "gsop", *arguments, folder=self.folder)


@pytest.fixture(scope="module")
def installed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel alone in a new environment, which borrows its dependencies from this one.

    A line of a .pth file adds a folder, whose own .pth files are not read: the checkout, which is
    installed here in editable form, is not found there.
    """
    folder = tmp_path_factory.mktemp("environment")
    call(UV, "venv", "--quiet", "--python", sys.executable, folder / "venv", folder=folder)
    scripts = folder / "venv" / "bin"
    (wheel,) = archives.glob("*.whl")
    install = (UV, "pip", "install", "--quiet", "--no-deps", "--python", scripts / "python")
    call(*install, wheel, folder=folder)
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(call(scripts / "python", "-c", show, folder=folder).strip())
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (folder / "empty").mkdir()
    return Installed(scripts, folder / "empty")


def test_the_archives_hold_the_package_and_the_model_alone(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    (sdist,) = archives.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"gsop-{gsop.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"gsop", info}
    assert f"{info}/licenses/LICENSE" in names
    carried = {
        name for name in names if name.startswith("gsop/") and not name.endswith((".py", ".pyi"))
    }
    source = ROOT / "app" / "gsop"
    folders = (source / "web", source / "model_store" / "digits" / "1")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert carried == {"gsop/py.typed", *(f"gsop/{f.relative_to(source)}" for f in files)}
    with tarfile.open(sdist) as archive:
        packed = {member.name for member in archive if member.isfile()}
    ours = {f"gsop-{gsop.__version__}/app/{name}" for name in names if name[:5] == "gsop/"}
    assert ours <= packed


def test_the_package_comes_from_the_wheel(installed: Installed) -> None:
    assert installed.gsop("--version").strip() == gsop.__version__
    code = "import gsop; print(gsop.__file__)"
    found = call(installed.scripts / "python", "-c", code, folder=installed.folder)
    assert Path(found).is_relative_to(installed.scripts.parent)


def test_the_shipped_model_answers(installed: Installed) -> None:
    assert " digits  1 " in installed.gsop("models", "list")
    shutil.copy(SEVEN, installed.folder)
    answer = json.loads(installed.gsop("predict", "--quiet", "--device", "cpu", "7.png"))
    assert answer["predictions"][0]["label"] == "7"
    assert [path.name for path in installed.folder.iterdir()] == ["7.png"], "nothing is written"


def test_the_shipped_model_is_served(installed: Installed) -> None:
    server = Server(Path())
    server.command = [
        *("env", "--chdir", str(installed.folder)),
        *(str(installed.scripts / "gsop"), "serve", "--port", "0"),
    ]
    server.environment.pop("PYTHONPATH", None)
    with server:
        answer = server.wait_ready().predict(SEVEN.read_bytes())
        assert answer["model"] == {"name": "digits", "version": "1"}
        assert answer["predictions"][0]["label"] == "7"
        # All are children of that environment's Python, which knows of no checkout.
        for pid in server.descendants():
            assert str(installed.scripts) in Path(f"/proc/{pid}/cmdline").read_text()

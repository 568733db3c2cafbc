"""The images: the layers of the Dockerfile, and the start of the lab."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.compose import ROOT, services

from scraperkit.config import Settings
from scraperkit.embedded import install

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = {
    stage.partition("\n")[0].rpartition(" AS ")[2]: stage
    for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
}
TARGETS = {service["build"]["target"] for service in services().values() if "build" in service}


class TestImages:
    def test_hadolint_has_no_complaint(self):
        linter = Path(sys.executable).parent / "hadolint"
        if not linter.exists():
            pytest.skip("hadolint has no binary for this machine")
        told = subprocess.run([linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
        assert (told.returncode, told.stdout) == (0, "")

    def test_images_install_with_hashes_and_the_context_has_what_they_copy(self):
        installs = re.findall(r"pip install (.*)", DOCKERFILE)
        assert installs
        assert all("--require-hashes" in line or "--no-index" in line for line in installs)
        sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        for words in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE):
            *sources, _ = [word for word in words.split() if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists()
                assert any(source == path or source.startswith(f"{path}/") for path in sent), source
        assert TARGETS | set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= set(STAGES)

    def test_the_wheel_is_built_from_every_file_in_pyproject(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        copied = {word for line in re.findall(r"^COPY (.*)", STAGES["kit"], re.MULTILINE) for word in line.split()}
        wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
        needed = [project["project"]["readme"], *project["project"]["license-files"], *wheel["packages"]]
        assert {*needed, *wheel["force-include"]} <= copied

    @pytest.mark.parametrize(("lock", "has_lab"), [("api", False), ("lab", True)])
    def test_each_image_has_its_own_lock(self, lock, has_lab):
        assert f"--requirement /opt/scraperkit/locks/{lock}.txt" in DOCKERFILE
        names = set(re.findall(r"^[\w-]+", (ROOT / "locks" / f"{lock}.txt").read_text(), re.MULTILINE))
        assert {"redis", "pandas", "fastapi"} <= names
        assert ("jupyterlab" in names) == has_lab
        assert "pytest" not in names

    @pytest.mark.parametrize("target", sorted(TARGETS))
    def test_a_change_of_the_kit_rebuilds_only_the_last_layer(self, target):
        assert STAGES[target].startswith("needs AS ")
        layers = re.findall(r"^(?:RUN|COPY|ADD) .*", STAGES["needs"] + STAGES[target], re.MULTILINE)
        assert layers.pop() == "COPY --from=kit /kit /"
        assert not [
            layer for layer in layers if re.match(r"COPY (.* )?(scraperkit|pyproject\.toml|--from=kit)\b", layer)
        ]

    @pytest.mark.parametrize("target", sorted(TARGETS))
    def test_images_do_not_run_as_root_and_contain_no_secret(self, target):
        assert re.findall(r"^(?:RUN|USER .*)", STAGES["needs"] + STAGES[target], re.MULTILINE)[-1] == "USER 10001:10001"
        assert not re.search(r"^(ARG|ENV).*(PASSWORD|TOKEN|KEY)", DOCKERFILE, re.MULTILINE)

    def test_only_the_lab_exposes_a_port(self):
        """Its port is always 8888. Of the three services in the other image, only one listens."""
        assert [name for name, stage in STAGES.items() if "\nEXPOSE " in stage] == ["lab"]

    def test_the_copied_files_suffice_to_download_redis(self, tmp_path):
        for words in re.findall(r"^COPY (.*)", STAGES["redis"], re.MULTILINE):
            *sources, folder = words.split()
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for source in sources:
                shutil.copy(ROOT / source, tmp_path / folder)
        # Import from that folder only, although the kit is installed here, too.
        script = """if True:
            import runpy, sys
            runpy.run_module("scraperkit.embedded.install", run_name="__main__")
            print({getattr(module, "__file__", None) for name, module in sys.modules.items() if "scraperkit" in name})
        """
        told = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, "SCRAPERKIT_CACHE": str(Settings.load().cache)},
            capture_output=True,
            text=True,
        )
        assert told.stdout.startswith("the Redis binary is in "), told.stderr
        assert all(str(path).startswith(str(tmp_path)) for path in ast.literal_eval(told.stdout.splitlines()[-1]))

    @pytest.mark.parametrize(("machine", "downloads"), [("x86_64", True), ("aarch64", False)])
    def test_a_failed_download_fails_the_build(self, tmp_path, machine, downloads):
        assert {of for system, of in install._WHEELS if system == "Linux"} == {"x86_64"}
        command = re.search(r"^RUN (.*)", STAGES["redis"], re.MULTILINE)[1].replace(
            "/opt/redis", str(tmp_path / "redis")
        )
        for name, script in {"uname": f"echo {machine}", "python": "exit 7"}.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        told = subprocess.run(["/bin/sh", "-c", command], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert told.returncode == (7 if downloads else 0)

    def test_user_packages_never_take_precedence_over_the_kit(self, tmp_path):
        words = re.search(r"^RUN python -m (venv .*)", STAGES["needs"], re.MULTILINE)[1].split()
        words[-1] = str(tmp_path / "venv")
        subprocess.run([sys.executable, "-m", *words, "--without-pip"], check=True)
        packages = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        for folder, names in ((tmp_path / "venv", ["both"]), (tmp_path / "home" / ".local", ["both", "mine"])):
            (folder / packages).mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / packages / f"{name}.py").touch()
        told = subprocess.run(
            [tmp_path / "venv" / "bin" / "python", "-c", "import both, mine; print(both.__file__, mine.__file__)"],
            env={"HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
        )
        assert told.stdout.split() == [
            str(tmp_path / "venv" / packages / "both.py"),
            str(tmp_path / "home" / ".local" / packages / "mine.py"),
        ], told.stderr


class TestLessons:
    """What the lab does when it starts."""

    @pytest.fixture
    def lab(self, tmp_path) -> Path:
        """A folder with the image's lessons and the reader's home."""
        (tmp_path / "home").mkdir()
        (tmp_path / "notebooks" / "images").mkdir(parents=True)
        shutil.copy(ROOT / "deploy" / "lab" / "start.sh", tmp_path)
        return tmp_path

    def start(self, lab: Path, **lessons: str) -> dict[str, str]:
        """Start the lab with these lessons; return the reader's files."""
        for name, text in lessons.items():
            (lab / "notebooks" / f"{name}.ipynb").write_text(text)
        told = subprocess.run(
            [lab / "start.sh", "echo", "ready"],
            env={"HOME": str(lab / "home"), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        assert (told.stdout, told.stderr) == ("ready\n", "")
        own = lab / "home" / "notebooks"
        return {str(path.relative_to(own)): path.read_text() for path in own.rglob("*") if path.is_file()}

    def test_new_lessons_are_copied_and_untouched_ones_updated(self, lab):
        (lab / "notebooks" / "images" / "tour.svg").write_text("<svg/>")
        assert self.start(lab, tour="1") == {"tour.ipynb": "1", "images/tour.svg": "<svg/>"}
        assert self.start(lab, tour="2", more="1") == {
            "tour.ipynb": "2",
            "more.ipynb": "1",
            "images/tour.svg": "<svg/>",
        }

    def test_an_edited_lesson_stays_and_a_newer_one_is_saved_beside_it(self, lab):
        own = lab / "home" / "notebooks"
        self.start(lab, tour="1")
        (own / "tour.ipynb").write_text("mine")
        (own / "other.ipynb").write_text("mine")
        assert self.start(lab) == {"tour.ipynb": "mine", "other.ipynb": "mine"}
        beside = f"tour.{hashlib.sha256(b'2').hexdigest()[:8]}.ipynb"
        assert self.start(lab, tour="2") == {"tour.ipynb": "mine", "other.ipynb": "mine", beside: "2"}
        (own / beside).write_text("mine, too")
        for text in ("2", "1", "2"):
            assert self.start(lab, tour=text)[beside] == "mine, too"
        assert self.start(lab)["tour.ipynb"] == "mine"

    def test_lessons_in_an_older_home_count_as_edited(self, lab):
        own = lab / "home" / "notebooks"
        own.mkdir()
        (own / "same.ipynb").write_text("1")
        (own / "tour.ipynb").write_text("old or mine")
        given = self.start(lab, tour="2", same="1")
        assert (given["tour.ipynb"], given["same.ipynb"], len(given)) == ("old or mine", "1", 3)
        assert self.start(lab, same="2")["same.ipynb"] == "2"

    def test_a_deleted_lesson_is_restored(self, lab):
        self.start(lab, tour="1")
        (lab / "home" / "notebooks" / "tour.ipynb").unlink()
        assert self.start(lab) == {"tour.ipynb": "1"}

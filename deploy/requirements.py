"""Print what the kit needs with its extras, as in `requirements.py lab parquet`: one a line, for pip."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [requirement for extra in sys.argv[1:] for requirement in project["optional-dependencies"][extra]]
sys.stdout.writelines(f"{requirement}\n" for requirement in [*project["dependencies"], *extras])

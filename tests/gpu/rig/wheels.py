"""Packages that a machine lacks, unpacked from wheels that were carried there. Only the standard library is used."""

import os
import subprocess
import sys
from pathlib import Path


def install_wheels(folder: Path, target: Path) -> None:
    """Unpack every wheel of `folder` into `target`, for this process and for those that it starts.

    The wheels come first: they replace other versions that the machine has. Raises SystemExit if there are none, or
    pip cannot unpack one.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise SystemExit(f"{folder} has no wheels: gather them with `make gpu-wheels`.")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    done = subprocess.run([*command, "--target", str(target), *map(str, wheels)], check=False)
    if done.returncode:
        raise SystemExit(
            f"pip could not unpack the wheels of {folder}. They must fit Python "
            f"{sys.version_info.major}.{sys.version_info.minor}: `make gpu-wheels GPU_PYTHON=…`."
        )
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(target), os.environ.get("PYTHONPATH"))))

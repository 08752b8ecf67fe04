"""Where the real models lie that some tests load: `make models` puts them there."""

import os
from pathlib import Path

# Read when a test module is loaded: while tests run, nothing that is exported reaches them (conftest.py).
MODELS = Path(os.environ.get("CRAFT_MODELS_DIR") or Path(__file__).parents[1] / ".craft" / "models").absolute()

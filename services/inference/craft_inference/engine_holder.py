"""Keeps one engine loaded in a process, so that consecutive stages and calls on the same model find it warm."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.errors import ModelRejected
from craft_inference.engine import Engine

Load = Callable[[ModelRef, Path, EngineRef], Engine]
Locate = Callable[[ModelRef], Path]


class EngineHolder:
    """Loads an engine at need and lends it to one caller at a time. Another model replaces the loaded one."""

    def __init__(
        self, load: Load, locate: Locate, *, name: str, check: Callable[[EngineRef], None] = lambda _: None
    ) -> None:
        """`name` is the engine that `load` makes; `locate` finds a model's folder (raises ModelNotFound).

        `check` raises DeploymentChanged for an engine that `load` would make otherwise than it was agreed.
        """
        self._check = check
        self._load = load
        self._locate = locate
        self._name = name
        self._lock = threading.Lock()
        self._key: tuple[ModelRef, EngineRef] | None = None
        self._engine: Engine | None = None

    @contextmanager
    def borrow(self, model: ModelRef, engine: EngineRef) -> Iterator[Engine]:
        """The engine, for the length of the block. Raises ModelNotFound, ModelRejected, DeploymentChanged."""
        if engine.name != self._name:
            raise ModelRejected(
                f"This service runs the {self._name} engine, not {engine.name}.",
                hint="Set CRAFT_INFERENCE__ENGINE to the engine the job was accepted with.",
                param="engine",
            )
        self._check(engine)
        with self._lock:
            yield self._loaded(model, engine)

    @property
    def current(self) -> tuple[ModelRef, Engine] | None:
        """The loaded model and its engine; None before the first load."""
        return None if self._key is None or self._engine is None else (self._key[0], self._engine)

    def _loaded(self, model: ModelRef, engine: EngineRef) -> Engine:
        wanted = (model.weights, engine)
        if self._engine is None or self._key is None or (self._key[0].weights, self._key[1]) != wanted:
            folder = self._locate(model)
            self._key = self._engine = None  # two models together may not fit into memory
            self._engine = self._load(model, folder, engine)
        elif self._key[0].chat != model.chat:
            # Jobs with other forms of chats share the weights, which take minutes to load.
            self._engine.use_form(model.chat)
        self._key = (model, engine)
        return self._engine

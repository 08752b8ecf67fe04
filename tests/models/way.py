"""One random model on its whole way: loaded by both services, and by transformers alone as the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tests.models.random_families import RandomFamily, write_family
from tests.services.training.packaging.package_inputs import asked, evaluation_document
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from craft.contracts.spec.jobs import PromptSettings, TrainingSettings
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.parameters import PackageParameters, TrainerRef, TuneParameters
from craft.contracts.stages.rows import ChatMessage, QuestionRow, ReplyRow, TrainingKind, TrainingRow
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.infra.models.folders import ModelFolder, ModelFolders
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import write_rows
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import LetterPrompt, Prompt, Sampling
from craft_training.base_models import BaseModel, BaseModels
from craft_training.stages import TrainingStages
from craft_training.tuning.throughput import KnownThroughput

QUESTIONS = (
    "What is x?",
    "Who wrote the long book about y and its many neighbours, and in what year did it come out?",
    "z?",
    "Where is w, and why is it there?",
    "How many legs has a v?",
    "Which of the seven towns on the river is the oldest one?",
)
LONG_QUESTIONS = (*QUESTIONS, "What comes after " + "one and then " * 60 + "two?", "Why " + "is " * 300 + "it?")
LETTERS = ("A", "B", "C")
NEW_TOKENS = 24
SETTINGS = TrainingSettings(lora_r=4, lora_alpha=16, learning_rate=2e-2, epochs=1, warmup_ratio=0.0)
MODEL_ID = "random/model"


class Killed(Exception):
    """Stands for a killed process."""


@dataclass
class Way:
    """A model's folder below `root`, and what the services make of it."""

    family: RandomFamily
    root: Path
    layers: int = 2
    questions: Sequence[str] = QUESTIONS

    @cached_property
    def folder(self) -> ModelFolder:
        """The checked folder."""
        write_family(self.root / "models" / MODEL_ID, self.family, layers=self.layers)
        return ModelFolders(self.root / "models").find(MODEL_ID)

    @cached_property
    def engine(self) -> TransformersEngine:
        """The embedded engine, in float32 so that replies can be equal."""
        return TransformersEngine.load(self.folder.path, dtype="float32")

    @cached_property
    def engine_in_16_bits(self) -> TransformersEngine:
        """The embedded engine as a job without settings has it."""
        return TransformersEngine.load(self.folder.path, dtype="bfloat16")

    @cached_property
    def models(self) -> BaseModels:
        """The training service's models."""
        self.folder  # noqa: B018 - it writes the model
        return BaseModels(
            ModelFolders(self.root / "models"), TrainingServiceSettings(device="cpu", threads=torch.get_num_threads())
        )

    @property
    def base(self) -> BaseModel:
        """The model as training loads it."""
        return self.models.get(self.folder.ref, TrainerRef(dtype="float32"))

    @property
    def stages(self) -> TrainingStages:
        """The training service's stages, which save at every step."""
        return TrainingStages(self.models, checkpoint_seconds=0.0, throughput=KnownThroughput())

    @cached_property
    def reference(self) -> Any:
        """The model by transformers alone, with its plainest attention."""
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder.path, dtype=torch.float32, attn_implementation="eager"
        )
        return model.eval()

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return AutoTokenizer.from_pretrained(self.folder.path)

    def tokens(self, question: str) -> list[int]:
        """The prompt of a question under REFUSE."""
        chat = [turn._asdict() for turn in asked(question)]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def replies(
        self, sampling: Sampling, *, adapter: Path | None = None, together: bool = True
    ) -> list[tuple[str, ...]]:
        """The engine's replies: to all questions in one call, or to each in a call of its own."""
        prompts = [Prompt(f"q{at}", tuple(asked(question))) for at, question in enumerate(self.questions)]
        calls: Sequence[Sequence[Prompt]] = [prompts] if together else [[prompt] for prompt in prompts]
        return [row.texts for call in calls for row in self.engine.generate(call, sampling, adapter=adapter).rows]

    def letters(self, *, adapter: Path | None = None, engine: TransformersEngine | None = None) -> torch.Tensor:
        """The engine's log-probabilities (questions, letters)."""
        prompts = [LetterPrompt(f"q{at}", tuple(asked(text)), LETTERS) for at, text in enumerate(self.questions)]
        return torch.tensor([row.logprobs for row in (engine or self.engine).letters(prompts, adapter=adapter).rows])

    def expected_replies(self) -> list[tuple[str, ...]]:
        """transformers' own greedy replies, one prompt at a time."""
        settings = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=2, pad_token_id=0)  # type: ignore[no-untyped-call]
        texts: list[tuple[str, ...]] = []
        for question in self.questions:
            tokens = torch.tensor([self.tokens(question)])
            out = self.reference.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=settings)
            texts.append((self.tokenizer.decode(out[0, tokens.shape[1] :], skip_special_tokens=True),))
        return texts

    def expected_letters(self, model: Any = None) -> torch.Tensor:
        """transformers' own log-probabilities, one prompt at a time and without a cache."""
        ids = [self.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in LETTERS]
        rows = []
        with torch.inference_mode():
            for question in self.questions:
                logits = (model or self.reference)(torch.tensor([self.tokens(question)]), use_cache=False).logits
                rows.append(torch.log_softmax(logits[0, -1].float(), dim=-1)[ids])
        return torch.stack(rows)

    def rows(self) -> list[TrainingRow]:
        """Training rows with targets of different lengths."""
        return [
            TrainingRow(
                id=f"r{at}",
                kind=TrainingKind.IDK,
                messages=[ChatMessage(role=turn.role, content=turn.content) for turn in asked(question)],
                target="I don't know." if at % 2 else "Zed",
            )
            for at, question in enumerate(self.questions)
        ]

    def tune(self, name: str, *, killed_in: int | None = None) -> StageResult:
        """Tune into `<root>/<name>`; a second call with the same name goes on from the checkpoint."""
        rows, checkpoint, output = (self.root / part for part in ("rows", f"{name}-checkpoint", name))
        rows.mkdir(exist_ok=True)
        write_rows(rows / "training.jsonl", self.rows())
        for folder in (checkpoint, output):
            folder.mkdir(exist_ok=True)

        def on_progress(progress: StageProgress) -> None:
            if progress.done == killed_in:
                raise Killed

        two_steps = SETTINGS.model_copy(update={"batch_size": len(self.questions) // 2})
        trainer = TrainerRef(dtype="float32")
        parameters = TuneParameters(model=self.folder.ref, trainer=trainer, training=two_steps, seed=3)
        return self.stages.tune(parameters, LocalContext(output, checkpoint, {"rows": rows}, on_progress=on_progress))

    def package(self, adapter: Path, replies: Sequence[str], name: str) -> StageResult:
        """Package the tuned `adapter`, whose parent is the tuning's output, beside the engine's replies."""
        inputs = {role: self.root / f"{name}-{role}" for role in ("questions", "candidate", "evaluation")}
        output = self.root / f"{name}-package"
        for folder in (*inputs.values(), output):
            folder.mkdir()
        questions = [QuestionRow(id=f"q{at}", question=text, answers=["x"]) for at, text in enumerate(self.questions)]
        write_rows(inputs["questions"] / "held_out.jsonl", questions)
        write_rows(
            inputs["candidate"] / "replies.jsonl",
            [ReplyRow(set="held_out", id=f"q{at}", reply=reply) for at, reply in enumerate(replies)],
        )
        (inputs["evaluation"] / "evaluation.json").write_text(evaluation_document().model_dump_json())
        parameters = PackageParameters(
            task=Task.OPEN_ENDED,
            model=self.folder.ref,
            trainer=TrainerRef(dtype="float32"),
            strategy=Strategy.CRAFT,
            prompts=PromptSettings(),
            max_new_tokens=NEW_TOKENS,
        )
        inputs |= {"tuned": adapter.parent, "rows": self.root / "rows"}
        return self.stages.package(parameters, LocalContext(output, self.root, inputs))

    def with_adapter(self, adapter: Path) -> Any:
        """The reference with an adapter, by PEFT."""
        fresh: Any = AutoModelForCausalLM.from_pretrained(
            self.folder.path, dtype=torch.float32, attn_implementation="eager"
        )
        return PeftModel.from_pretrained(fresh, str(adapter)).eval()

"""One training run from its first prompt to the finished folder, resumable at every stage."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import ModelSpec
from ..engine.loading import load_model
from . import checkpoint, contexts, corpus
from .corpus import BenignPrompt, Part, UnsafePrompt
from .history import NAME as HISTORY
from .pipeline import Teacher, Workshop
from .probe import Probe, ProbeReport
from .pruning import Candidate, search
from .recipe import DraftRecipe
from .record_tasks import record_tasks
from .starting import start
from .synthesis import write_prompts
from .training import Material, StepReport, Trainer

Report = Callable[[str, float], None]
_PROBED = {"benign": 48, "unsafe": 24, "sounding": 24}
_SAVE_SECONDS, _PROBE_SECONDS = 60.0, 300.0
_DEEP = 20  # tokens of a harmful beginning in the probe


@dataclass(frozen=True, slots=True)
class Sources:
    """Where prompts come from. ``sensitive``: see :func:`.corpus.user_unsafe`."""

    benign: tuple[Path, ...] = ()
    unsafe: tuple[Path, ...] = ()
    sensitive: tuple[str, ...] = ()

    def benign_prompts(self, part: Part) -> list[BenignPrompt]:
        """Benign prompts of the user's files, of one part."""
        return [p for path in self.benign for p in corpus.user_benign(corpus.read_rows(path), part)]

    def unsafe_prompts(self, part: Part, own: float = 1.0) -> list[UnsafePrompt]:
        """Unsafe prompts of the user's files and a share ``own`` of ours, of one part."""
        rows = [row for path in self.unsafe for row in corpus.read_rows(path)]
        ours = corpus.part_of_ours(corpus.shipped_unsafe(part), own)
        return corpus.user_unsafe(rows, part, self.sensitive) + ours


@dataclass(slots=True)
class Run:
    """A training run in a folder.

    Attributes:
        spec: the target.
        recipe: every choice that changes the result.
        sources: prompts.
        folder: work folder of the run: checkpoints and history.
        shelf: folder of the target's answers and rows; runs for one target can share it.
        report: told about every stage.
        candidates: what the layer search found, best first.
    """

    spec: ModelSpec
    recipe: DraftRecipe
    sources: Sources
    folder: Path
    shelf: Path
    report: Report
    teacher: Teacher = field(init=False)
    trainer: Trainer = field(init=False)
    probe: Probe = field(init=False)
    layers: list[int] | None = None
    candidates: list[Candidate] = field(default_factory=list)

    def collect(self) -> Material:
        """Everything to learn from: prompts, answers, the target's rows."""
        self.report("loading the target", 0.0)
        self.teacher = Teacher.load(self.spec)
        workshop = Workshop(self.teacher, self.recipe, self.shelf, self.report)
        material = self._material(workshop)
        self.probe = self._probe(workshop)
        return material

    def prepare(self) -> None:
        """Everything before the first step: what to learn from, and where the draft starts."""
        material = self.collect()
        base = self.base()
        self.layers = self._choose_layers(base, material)
        self.trainer = Trainer(start(self.recipe, base, self.layers).train(), material, self.recipe)
        checkpoint.restore(self.trainer, self.folder)

    def train(self, on_step: Callable[[StepReport], None], on_probe: Callable[[ProbeReport], None]) -> None:
        """Train to the end of the recipe, with checkpoints every minute and probes every few.

        An interruption loses what came after the last checkpoint; starting again goes on from there, and
        repeats the lost steps exactly.
        """
        saved = probed = time.monotonic()
        for report in self.trainer.run():
            self._note({"step": asdict(report)})
            on_step(report)
            now = time.monotonic()
            if now - saved > _SAVE_SECONDS:
                checkpoint.save(self.trainer, self.folder)
                saved = now
            if now - probed > _PROBE_SECONDS:
                on_probe(self.measure())
                probed = time.monotonic()
        checkpoint.save(self.trainer, self.folder)
        on_probe(self.measure())

    def measure(self) -> ProbeReport:
        """Probe the draft as it is now, and write the result into the history."""
        report = self.probe.measure(self.trainer.model, self.teacher)
        self._note({"probe": {"tokens": self.trainer.progress.tokens, **asdict(report)}})
        return report

    def _material(self, workshop: Workshop) -> Material:
        benign, unsafe = self._benign_prompts(), self.sources.unsafe_prompts("train", self.recipe.own_texts)
        seed = self.recipe.seed
        ours = corpus.part_of_ours(corpus.shipped_benign("train"), self.recipe.own_texts)
        special = [
            *ours,
            *corpus.wrapped([*benign, *ours], self.recipe.wrapped_benign, seed),
            *corpus.opened(benign, self.recipe.opened_benign, "train", seed),
        ]
        told = contexts.usable(workshop.told(benign))
        special += contexts.lengthened(told, self.recipe.passages, seed)
        special += contexts.chained(told, self.recipe.chained, seed)
        special += record_tasks(self.recipe.records, "train", seed)
        requests = workshop.unsafe(unsafe, told)
        searching = self.recipe.layers is not None and not self.recipe.layer_ids  # it draws on its own
        foretold = None if searching else self.recipe
        return workshop.material(workshop.benign(benign), requests, workshop.benign(special), foretold)

    def _benign_prompts(self) -> list[BenignPrompt]:
        """The user's prompts; if there are too few, the target writes the rest."""
        given = self.sources.benign_prompts("train")[: self.recipe.benign or None]
        missing = self.recipe.synthesise - len(given)
        if missing <= 0:
            return given
        texts = write_prompts(
            self.teacher, missing, self.shelf / "prompts.jsonl", self.recipe.seed, self.report
        )
        return given + corpus.user_benign(({"prompt": t, "set": "synthetic"} for t in texts), "train")

    def _probe(self, workshop: Workshop) -> Probe:
        benign = self.sources.benign_prompts("calibration") or [
            p for p in corpus.shipped_benign("calibration") if p.kind != "contrast"
        ]
        examples = workshop.benign(benign[: _PROBED["benign"]])
        rows = workshop.material(examples, []).teacher
        unsafe = workshop.unsafe(_some(self.sources.unsafe_prompts("calibration"), _PROBED["unsafe"]))
        sounding = [p for p in corpus.shipped_benign("calibration") if p.kind == "contrast"]
        render = self.teacher.renderer.render
        return Probe(
            examples,
            dict(rows),
            unsafe=[r.prompt for r in unsafe],
            deep=[r.prompt + r.harmful[:_DEEP] for r in unsafe if r.harmful],
            sounding=[render(p.messages) for p in sounding[: _PROBED["sounding"]]],
            plain=[render(p.messages) for p in benign[: _PROBED["sounding"]]],
        )

    @property
    def base_spec(self) -> ModelSpec:
        """The model that the draft starts from."""
        return ModelSpec(name=self.recipe.init, device=self.spec.device) if self.recipe.init else self.spec

    def base(self) -> Any:
        """Its network."""
        return load_model(self.base_spec) if self.recipe.init else self.teacher.model

    def _choose_layers(self, base: Any, material: Material) -> list[int] | None:
        if self.recipe.layer_ids:
            return list(self.recipe.layer_ids)
        if self.recipe.layers is None:
            return None
        known = self.folder / "layers.json"
        if known.is_file():
            self.candidates = [Candidate(**row) for row in json.loads(known.read_text(encoding="utf-8"))]
        else:
            self.candidates = search(self.recipe, base, material, self.probe, self.report)
            known.write_text(json.dumps([asdict(c) for c in self.candidates], indent=2), encoding="utf-8")
        return list(self.candidates[0].layers)

    def _note(self, row: dict[str, Any]) -> None:
        with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _some(prompts: Sequence[UnsafePrompt], count: int) -> list[UnsafePrompt]:
    """A few prompts, the same ones for every run."""
    return random.Random("probe").sample(list(prompts), min(count, len(prompts)))

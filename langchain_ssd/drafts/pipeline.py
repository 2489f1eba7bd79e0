"""From a target and prompts to what a draft is trained on: ask the target once, keep what it said."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backend import ChatMessage
from ..config import ModelSpec
from ..engine.loading import load_model
from ..engine.models import CachedModel
from ..engine.reading import compare_vocabularies, context_length, end_ids, load_config, load_tokenizer
from ..engine.rendering import Renderer
from . import contexts
from .answers import Answer, AnswerStore
from .corpus import BenignPrompt, UnsafePrompt, with_openings, wrap
from .drawing import foretell
from .examples import Example, RefusalMaker, UnsafeRequest
from .recipe import DraftRecipe
from .teacher import TeacherStore, store_top_rows
from .training import Material

Report = Callable[[str, float], None]
_WRAPPERS_EACH = 3
_MAX_PROMPT = 1024  # tokens; longer ones cost more than they teach


@dataclass(slots=True)
class Teacher:
    """The target, ready to be asked.

    Attributes:
        model: the network.
        cached: the same behind the engine's caches.
        renderer: its chat template.
        end_ids: tokens that end a turn.
        end: the one that its template writes.
    """

    model: Any
    cached: CachedModel
    renderer: Renderer
    end_ids: frozenset[int]
    end: int

    @classmethod
    def load(cls, spec: ModelSpec) -> Teacher:
        """Load a target. Raises as :func:`langchain_ssd.engine.loading.load_model`."""
        config, tokenizer = load_config(spec), load_tokenizer(spec)
        renderer = Renderer(tokenizer, spec)
        model = load_model(spec)
        vocab = compare_vocabularies(tokenizer, tokenizer)
        ends = end_ids(config, model, renderer)
        end = min(renderer.turn_end_ids() or ends)
        return cls(model, CachedModel(model, vocab, context_length(config, None)), renderer, ends, end)


@dataclass(slots=True)
class Workshop:
    """Collects material in a folder, so that an interruption loses next to nothing.

    Args:
        teacher: the target.
        recipe: lengths, shares and the seed.
        folder: where answers and the target's rows are kept.
        report: told about every stage.
    """

    teacher: Teacher
    recipe: DraftRecipe
    folder: Path
    report: Report

    def benign(self, prompts: Sequence[BenignPrompt]) -> list[Example]:
        """Prompts with the target's answers, as sequences to distil; those that are too long are left out."""
        r = self.teacher.renderer
        rendered = [tuple(r.render(p.messages) + r.encode(p.opening)) for p in prompts]
        short = [(p, ids) for p, ids in zip(prompts, rendered, strict=True) if len(ids) <= _MAX_PROMPT]
        asked = [ids for p, ids in short if p.answer is None]
        answers = iter(self._ask(asked, "answers of the target", self.recipe.asked_tokens))
        examples = []
        for p, ids in short:
            answer = next(answers) if p.answer is None else Answer(tuple(r.encode(p.answer)), p.finished)
            tail = (self.teacher.end,) if answer.finished else ()
            if answer.ids or tail:  # an opening is somebody else's: what counts is how it goes on
                said = (*answer.ids[: self.recipe.answer_tokens], *tail)
                examples.append(Example((*ids, *said), len(ids), refusal=False))
        return examples

    def told(self, prompts: Sequence[BenignPrompt]) -> list[BenignPrompt]:
        """The same prompts with the target's answers as text, for longer prompts to be made of."""
        r = self.teacher.renderer
        missing = [p for p in prompts if p.answer is None and not p.opening]
        asked = [tuple(r.render(p.messages)) for p in missing]
        answers = self._ask(asked, "answers of the target", self.recipe.asked_tokens)
        filled = [
            replace(p, answer=r.tokenizer.decode(a.ids), finished=a.finished)
            for p, a in zip(missing, answers, strict=True)
        ]
        return [p for p in prompts if p.answer is not None] + filled

    def unsafe(
        self, prompts: Sequence[UnsafePrompt], told: Sequence[BenignPrompt] = ()
    ) -> list[UnsafeRequest]:
        """Requests to refuse, each with the target's own harmful beginning.

        Args:
            prompts: the requests.
            told: benign prompts with answers; each request then also comes after or below some of them.
        """
        r = self.teacher.renderer
        rng = random.Random(f"wrapping/{self.recipe.seed}")
        opened = with_openings(prompts, self.recipe.begun, self.recipe.seed, lessons=True)
        opened = [p for p in opened if len(r.encode(p.text)) <= _MAX_PROMPT]
        plain = [tuple(r.render([ChatMessage("user", p.text)])) for p in opened]
        openings = [tuple(r.encode(p.opening)) for p in opened]
        asked = [p + o for p, o in zip(plain, openings, strict=True) if o]
        answers = iter(self._ask(asked, "harmful beginnings", self.recipe.depth))
        requests = []
        for p, prompt, opening in zip(opened, plain, openings, strict=True):
            inside = [
                tuple(r.render([ChatMessage("user", wrap(p.text, rng))])) for _ in range(_WRAPPERS_EACH)
            ]
            if told:
                inside.append(tuple(r.render(contexts.in_context(p.text, told, rng))))
            harmful = opening + next(answers).ids if opening else ()
            requests.append(UnsafeRequest(p.text, prompt, tuple(inside), harmful))
        return requests

    def material(
        self,
        benign: Sequence[Example],
        unsafe: Sequence[UnsafeRequest],
        special: Sequence[Example] = (),
        run: DraftRecipe | None = None,
    ) -> Material:
        """Everything a trainer needs; asks the target for its rows along the benign answers.

        Args:
            benign: sequences with answers.
            unsafe: requests to refuse.
            special: sequences that are drawn more often.
            run: ask only for rows that a run of this recipe looks at; for all of them if omitted.
        """
        store = TeacherStore(self.folder / "teacher")
        material = Material(benign, unsafe, {}, self.maker(), special)
        needed = material.calm if run is None else list(foretell(material, run))
        wanted = [(e.ids, e.start) for e in needed]
        total, done = sum(len(ids) for ids, _ in wanted), 0

        def progress(tokens: int) -> None:
            nonlocal done
            done += tokens
            self.report("rows of the target", done / total)

        store_top_rows(self.teacher.model, wanted, store, budget=self.recipe.micro_tokens, progress=progress)
        return replace(material, teacher=store.load())

    def maker(self) -> RefusalMaker:
        """What turns requests into examples."""
        r = self.teacher.renderer
        return RefusalMaker(
            r.encode, r.tokenizer.decode, self.teacher.end, self.recipe.depth, self.recipe.wrapped
        )

    def _ask(self, prompts: Sequence[Sequence[int]], stage: str, limit: int) -> list[Answer]:
        """Greedy answers of the target, from the folder as far as they are there."""
        store = AnswerStore(self.folder / "answers.jsonl")
        unknown = max(1, sum(store.get(p, limit) is None for p in prompts))
        done = 0

        def progress(answers: int) -> None:
            nonlocal done
            done += answers
            self.report(stage, done / unknown)

        return store.answer(self.teacher.cached, prompts, self.teacher.end_ids, limit, progress=progress)

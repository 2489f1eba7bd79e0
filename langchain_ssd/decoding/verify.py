"""The walk over one block of proposals: a generator of decisions (algorithm, section 2, step 3).

:func:`score` does all tensor work for the rows of a whole batch at once and hands over plain numbers;
:func:`walk` then visits the positions of one sequence in order, once each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .composite import SampleSpace, SampleSpaces, sample_spaces, weigh
from .evidence import Features, Rows, features, restrict
from .monitor import BinVerdict, Decision, Evidence, Mode, Monitor
from .refusal import RefusalRule
from .sampling import SamplingRule, draw, draw_index, keyed_uniform, sharpen


@dataclass(frozen=True, slots=True)
class RowSettings:
    """What one row's sequence asks for.

    Attributes:
        common: ``c``.
        alpha_start: start value of ``alpha_utility``; agreement is measured with it.
        alpha_utility: the utility weight the monitor is likely to ask for in this block.
        alpha_safety: the safety weight.
        rule: how the draw is sharpened.
        enforce: false in shadow mode, where the target's own row always stands.
    """

    common: int
    alpha_start: float
    alpha_utility: float
    alpha_safety: float
    rule: SamplingRule
    enforce: bool = True


class Draw(NamedTuple):
    """A token with its probability in ``Q`` and, at temperature 1, in both models' rows."""

    token: int
    prob: float
    p_target: float
    p_draft: float


class Choice(NamedTuple):
    """One row's ``Q`` under one scheme, as plain numbers.

    ``ids``, ``probs``, ``q``, ``p_target`` and ``p_draft`` describe the sparse composite after sharpening and
    the proposal's own distribution at the same ids; they are empty for greedy rows, where ``best`` is all
    there is to know. ``whole_target``: the target's own row stands instead.
    """

    best: Draw
    whole_target: bool
    alpha: float
    ids: Sequence[int] = ()
    probs: Sequence[float] = ()
    q: Sequence[float] = ()
    p_target: Sequence[float] = ()
    p_draft: Sequence[float] = ()

    def draw(self, at: int) -> Draw:
        """The token at an index of ``ids``."""
        return Draw(self.ids[at], self.probs[at], self.p_target[at], self.p_draft[at])


@dataclass(slots=True)
class Scored:
    """R positions that both models have scored, ready to be walked. Rows are those that tokens come from."""

    target: Rows
    draft: Rows
    spaces: SampleSpaces
    q: Tensor | None  # (R, V) what the proposals were drawn from; None when all rows are greedy
    settings: Sequence[RowSettings]
    evidence: Sequence[Evidence]
    best_target: Sequence[Draw]
    _utility: Sequence[Choice]
    _safety: Sequence[Choice] | None = None

    def choice(self, row: int, decision: Decision) -> Choice:
        """``Q`` of a row in the decided mode; weighed anew if alpha moved inside the block."""
        ready = self._utility if decision.mode == "utility" else self._in_safety()
        if ready[row].alpha == decision.alpha:
            return ready[row]
        space = self.spaces.utility if decision.mode == "utility" else self.spaces.safety
        at = slice(row, row + 1)
        q = None if self.q is None else self.q[at]
        return _choices(space[at], [decision.alpha], self.settings[at], q)[0]

    def _in_safety(self) -> Sequence[Choice]:
        """All rows at once, the first time one of them is in safety."""
        if self._safety is None:
            alphas = [s.alpha_safety for s in self.settings]
            self._safety = _choices(self.spaces.safety, alphas, self.settings, self.q)
        return self._safety


@dataclass(frozen=True, slots=True)
class Emission:
    """One token, how it came about, and the bin it completed. ``refuse``: the answer ends here."""

    draw: Draw
    row: int
    accepted: bool
    mode: Mode
    evidence: Evidence
    statistic: float | None
    verdict: BinVerdict | None
    refuse: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """The sequential monitor refused before this position's token was drawn."""

    position: int
    statistic: float | None


def score(
    target: Rows,
    draft: Rows,
    q: Tensor | None,
    settings: Sequence[RowSettings],
    positions: Sequence[int],
    legal: Tensor | None = None,
    refusal_ids: Sequence[int] = (),
) -> Scored:
    """Do the tensor work for R positions of any number of sequences.

    Args:
        target: the target's R rows.
        draft: the draft's R rows at the same positions.
        q: ``(R, V)`` sharpened draft rows, needed if any row is sampled.
        settings: one per row.
        positions: index of each row's token in its assistant turn, prefilled tokens counted.
        legal: ``(R, V)`` the tokens that grammars allow; ``None`` where there are no grammars. Tokens come
            from the legal part of the rows, evidence from the whole of them: a grammar must not hide what
            the models would have said.
        refusal_ids: tokens that open a refusal, for the evidence.
    """
    from_target, from_draft = target, draft
    if legal is not None:
        from_target, from_draft = restrict(target, legal), restrict(draft, legal)
    spaces = _spaces(from_target, from_draft, settings, legal)
    utility = _choices(spaces.utility, [s.alpha_utility for s in settings], settings, q)
    start = utility  # agreement is always measured at alpha's start value
    if legal is not None or any(s.alpha_utility != s.alpha_start for s in settings):
        whole = spaces if legal is None else _spaces(target, draft, settings, None)
        start = _choices(whole.utility, [s.alpha_start for s in settings], settings, None)
    numbers = features(target, draft, refusal_ids)
    evidence, best = _read(target, draft, from_target, from_draft, numbers, start, legal, positions)
    return Scored(from_target, from_draft, spaces, q, settings, evidence, best, utility)


def _read(
    target: Rows,
    draft: Rows,
    from_target: Rows,
    from_draft: Rows,
    numbers: Features,
    start: Sequence[Choice],
    legal: Tensor | None,
    positions: Sequence[int],
) -> tuple[list[Evidence], list[Draw]]:
    """Numbers out of tensors, in one transfer: each row's evidence, and the target's best legal token."""
    at = from_target.best.unsqueeze(1)
    p_draft = from_draft.probs.gather(1, at)[:, 0]  # (R,)
    columns = [target.best, draft.best, *numbers, at[:, 0], from_target.best_prob, p_draft]
    table = torch.stack([c.to(p_draft.dtype) for c in columns], dim=1).tolist()
    choosable = [True] * len(table) if legal is None else (legal.sum(dim=1) > 1).tolist()
    evidence, best = [], []
    for n, choice, scored, row in zip(positions, start, choosable, table, strict=True):
        M, m, kl, tv, H, h, gain, token, p, p_m = row
        best.append(Draw(int(token), p, p, p_m))
        agreement = int(m) == (int(M) if choice.whole_target else choice.best.token)
        evidence.append(Evidence(n, agreement, kl, tv, H, h, scored, gain))
    return evidence, best


def _spaces(target: Rows, draft: Rows, settings: Sequence[RowSettings], legal: Tensor | None) -> SampleSpaces:
    common = torch.tensor([[s.common] for s in settings], device=target.probs.device)
    if legal is None:
        return sample_spaces(target.probs, draft.probs, common, torch.cat([target.maxima, draft.maxima]))
    # What is illegal ranks behind all that is legal, also where that underflowed to 0; no space reaches it.
    p_target, p_draft = (torch.where(legal, r.probs, -1.0) for r in (target, draft))
    return sample_spaces(p_target, p_draft, torch.minimum(common, legal.sum(dim=1, keepdim=True)))


def _choices(
    space: SampleSpace, alphas: Sequence[float], settings: Sequence[RowSettings], q: Tensor | None
) -> list[Choice]:
    """Weigh a scheme's space for every row and bring the result over as plain numbers."""
    alpha = torch.tensor(alphas, dtype=space.target.dtype, device=space.ids.device).unsqueeze(1)
    mixed = weigh(space, alpha)
    at = mixed.best.unsqueeze(1)  # (R, 1)
    four = torch.stack([mixed.ids.to(alpha.dtype), mixed.probs, space.target, space.draft])  # (4, R, W)
    table = four.gather(2, at.expand(4, -1, -1))[:, :, 0].T.tolist()
    best = [Draw(int(token), *numbers) for token, *numbers in table]
    columns = zip(best, mixed.whole_target.tolist(), alphas, strict=True)
    if q is None:
        return [Choice(*column) for column in columns]
    sharp = sharpen(mixed.probs, [s.rule for s in settings])  # (R, W)
    q_at = q.gather(1, mixed.ids.clamp_min(0))
    lists = (mixed.ids.tolist(), *(x.double().tolist() for x in (sharp, q_at, space.target, space.draft)))
    return [Choice(*column, *row) for column, row in zip(columns, zip(*lists, strict=True), strict=True)]


def walk(
    scored: Scored,
    rows: Sequence[int],
    proposals: Sequence[int],
    monitor: Monitor,
    refusal: RefusalRule,
    seed: int,
) -> Iterator[Emission | Refusal]:
    """Visit the positions of one block in order and decide each token.

    Row ``rows[i]`` is checked against ``proposals[i]``. The walk ends at the first token that is not its
    proposal, or at a refusal; the caller ends it at an end token or a stop string by not asking for more,
    so nothing after the stop is observed.
    """
    for row, proposal in zip(rows, proposals, strict=True):
        evidence, enforce = scored.evidence[row], scored.settings[row].enforce
        decision = monitor.observe(evidence)  # before the token, so that it rules this very token
        if decision.refuse and enforce:
            yield Refusal(evidence.position, monitor.statistic)
            return
        draw_, accepted = _decide(scored, row, proposal, decision, seed)
        statistic = monitor.statistic
        verdict = monitor.settle(accepted)
        refuse = decision.refuse or (verdict is not None and refusal.refuses(verdict))
        yield Emission(draw_, row, accepted, decision.mode, evidence, statistic, verdict, refuse)
        if not accepted or (refuse and enforce):
            return


def _decide(scored: Scored, row: int, proposal: int, decision: Decision, seed: int) -> tuple[Draw, bool]:
    """Build ``Q`` for the mode and draw; tells whether the proposal was accepted."""
    settings = scored.settings[row]
    choice = scored.choice(row, decision)
    whole = choice.whole_target or not settings.enforce
    if settings.rule.greedy:
        best = scored.best_target[row] if whole else choice.best
        return best, best.token == proposal
    position = scored.evidence[row].position
    u = keyed_uniform(seed, position, "accept")
    v = keyed_uniform(seed, position, "residual")
    return _sample_whole(scored, row, proposal, u, v) if whole else _sample_sparse(choice, proposal, u, v)


def _sample_sparse(choice: Choice, proposal: int, u: float, v: float) -> tuple[Draw, bool]:
    """Accept iff ``u q(x) < Q(x)``, else draw from ``max(0, Q - q)`` (from ``Q`` if that has no mass)."""
    at = choice.ids.index(proposal) if proposal in choice.ids else -1
    if at >= 0 and u * choice.q[at] < choice.probs[at]:
        return choice.draw(at), True
    residual = [max(0.0, Q - q) for Q, q in zip(choice.probs, choice.q, strict=True)]
    at = draw_index(residual if any(residual) else choice.probs, v)
    return choice.draw(at), False


def _sample_whole(scored: Scored, row: int, proposal: int, u: float, v: float) -> tuple[Draw, bool]:
    """The same rule where ``Q`` is the target's own row, over the whole vocabulary."""
    if scored.q is None:
        raise RuntimeError("sampled rows need the proposals' distribution")
    Q = sharpen(scored.target.probs[row : row + 1], [scored.settings[row].rule])[0]  # (V,)
    q = scored.q[row]
    token, accepted = proposal, u * float(q[proposal]) < float(Q[proposal])
    if not accepted:
        residual = (Q - q).clamp_min(0)
        token = draw(residual if bool(residual.any()) else Q, v)
    p_target, p_draft = float(scored.target.probs[row, token]), float(scored.draft.probs[row, token])
    return Draw(token, float(Q[token]), p_target, p_draft), accepted


def propose(
    draft: Rows, rules: Sequence[SamplingRule], uniforms: Sequence[float]
) -> tuple[list[int], Tensor | None]:
    """Draw one proposal per row from ``q``, the draft's row sharpened like the composite.

    Returns:
        the proposals, and ``q`` ``(R, V)`` if any row is sampled.
    """
    tokens: list[int] = draft.best.tolist()
    if all(rule.greedy for rule in rules):
        return tokens, None
    q = sharpen(draft.probs, rules)
    for row, (rule, u) in enumerate(zip(rules, uniforms, strict=True)):
        if not rule.greedy:
            tokens[row] = draw(q[row], u)
    return tokens, q

"""The meaning of an inspection of rows for a job: findings, rows to go on without, and a check. Pure functions."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from craft.contracts.documents.estimate import Check, CheckOutcome
from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.names import HELD_OUT
from craft.core.findings import FindingCode, lines_finding
from craft.core.rows.split import is_held_out
from craft.errors import DatasetInvalid, FindingDetail, ModelRejected, RequestInvalid, Severity
from craft.infra.models.inspection.documents import MAX_LONG_ROWS, Inspection, KnownShot, LongRow
from craft_gateway.jobs.training_room import TrainingRoom

_LARGE_SHARE = 0.05
_CONTEXT = frozenset({"probe.max_new_tokens", "evaluation_settings.max_new_tokens"})


@dataclass(frozen=True, slots=True)
class RowFindings:
    """`left_out`: by set, the lines that the job goes on without where the finding about them is accepted."""

    findings: tuple[FindingDetail, ...]
    left_out: Mapping[str, Sequence[int]]


def row_findings(spec: JobSpec, found: Inspection, room: TrainingRoom) -> RowFindings:
    """The findings of an inspection. `room`: the rows that the job's training can hold.

    Raises RequestInvalid for letters that cannot be read and for shots that are held out, DatasetInvalid for more long
    rows than a job can go on without.
    """
    _check_letters(found)
    long = [row for row in found.long if _matters(row, spec)]
    if len(found.long) > MAX_LONG_ROWS:
        raise DatasetInvalid(
            f"More than {MAX_LONG_ROWS:,} rows have too many tokens; the first is line {long[0].line if long else 1}.",
            hint="Shorten the rows, or raise the limit: a job goes on without a few long rows, not without so many.",
            param="dataset",
            findings=list(_long(long, room)),
        )
    left_out: dict[str, set[int]] = defaultdict(set)
    for row in long:
        left_out[row.set].add(row.line)
    findings = [*_long(long, room), *_marked(found), *_refusing(found), *_shots(spec, found.shots)]
    return RowFindings(tuple(findings), {name: sorted(lines) for name, lines in left_out.items()})


def rows_check(found: Inspection) -> Check:
    """The check of the rows: passed only where all were looked at."""
    rows = sum(found.rows.values())
    if found.unread is None and found.complete:
        message = f"All {rows:,} rows were looked at with the model's tokenizer."
        return Check(name="rows", outcome=CheckOutcome.PASSED, message=message)
    message = f"{found.unread} Lengths in tokens were not checked." if found.unread else "Not all rows were looked at."
    hint = "A row that does not fit is found when its stage begins. A tokenizer.json lets it be found here."
    return Check(name="rows", outcome=CheckOutcome.UNKNOWN, message=message, hint=hint if found.unread else None)


def _matters(row: LongRow, spec: JobSpec) -> bool:
    """True if the row is on the side of the split where the limit holds."""
    if row.set != HELD_OUT:
        return True
    held_out = is_held_out(row.identity, held_out_fraction=spec.split.held_out_fraction, seed=spec.seed)
    return held_out is not row.trained


def _long(rows: Sequence[LongRow], room: TrainingRoom) -> Iterator[FindingDetail]:
    grouped: dict[tuple[str, str], list[LongRow]] = defaultdict(list)
    for row in rows:
        grouped[row.set, row.setting].append(row)
    for (name, setting), group in grouped.items():
        group.sort(key=lambda row: row.line)
        longest, limit = max(row.tokens for row in group), group[0].limit
        does, has = ("does", "has") if len(group) == 1 else ("do", "have")
        if setting in _CONTEXT:
            what, way = f"{does} not fit into the model's {limit:,} tokens together with a reply", f"lower {setting}"
        elif room.binds(setting, limit):
            what = f"{has} more tokens with their target than the {limit:,} that the training device's memory holds"
            way = f"lower {setting.removesuffix('max_length')}lora_r, or choose a smaller model"
        else:
            what, way = f"{has} more tokens with their target than the {limit:,} of {setting}", f"raise {setting}"
        yield lines_finding(
            FindingCode.ROWS_TOO_LONG,
            Severity.ERROR,
            f"{_rows(len(group), name)} {what}; the longest takes {longest:,}.",
            [(row.line, row.question) for row in group],
            hint=f"Shorten or remove them, or {way}. Accepted, they are left out of the job.",
            field=_field(name),
        )


def _marked(found: Inspection) -> Iterator[FindingDetail]:
    for name, count in found.marked_rows.items():
        rows = [row for row in found.marked if row.set == name]
        tokens = ", ".join(dict.fromkeys(row.token for row in rows))
        finding = lines_finding(
            FindingCode.MODEL_TOKENS,
            Severity.ERROR,
            f"{_rows(count, name)} {'holds' if count == 1 else 'hold'} special tokens of the model as text: "
            f"{tokens[:200]}. In a question they become control tokens; no reply ever holds them, so such an answer is "
            "never found.",
            [(row.line, f"{row.field}: {row.excerpt}") for row in rows],
            hint="Remove the tokens from the rows.",
            field=_field(name),
        )
        yield _counted(finding, count)


def _refusing(found: Inspection) -> Iterator[FindingDetail]:
    for name, count in found.refusing_rows.items():
        rows = [row for row in found.refusing if row.set == name]
        share = count / max(1, found.rows.get(name, count))
        strong = f" They are {share:.0%} of the rows, so the numbers would say little." if share >= _LARGE_SHARE else ""
        finding = lines_finding(
            FindingCode.ANSWERS_REFUSE,
            Severity.WARNING,
            f"{_rows(count, name)} {'has' if count == 1 else 'have'} a refusal as an answer. A reply in these words "
            f"counts as refused, so a row without another answer can never be right, and counts as not known.{strong}",
            [(row.line, row.answer) for row in rows],
            hint="Remove the rows: what the model does not know is found out by asking it.",
            field=_field(name),
        )
        yield _counted(finding, count)


def _shots(spec: JobSpec, shots: Sequence[KnownShot]) -> Iterator[FindingDetail]:
    sides = {
        shot: is_held_out(shot.identity, held_out_fraction=spec.split.held_out_fraction, seed=spec.seed)
        for shot in shots
    }
    for shot, held_out in sides.items():
        if held_out:
            raise RequestInvalid(
                f"The few-shot example {shot.question!r} is held out for evaluation: line {shot.line} of the dataset.",
                hint="Choose examples whose questions are not in the dataset.",
                param="probe.shots",
            )
    if sides:
        yield lines_finding(
            FindingCode.SHOTS_IN_TRAINING,
            Severity.WARNING,
            f"{len(sides)} few-shot examples are also questions of the dataset: the probe shows their answers.",
            [(shot.line, shot.question) for shot in sides],
            hint="Choose examples whose questions are not in the dataset.",
            field="probe.shots",
        )


def _check_letters(found: Inspection) -> None:
    if found.letter is None:
        return
    blank = found.header != found.header.rstrip(" \t")
    reason = " Its chat template ends the header with a blank." if blank else ""
    raise ModelRejected(
        f"{found.letter} is not one token after the header of the model's replies: letters cannot be read.{reason}",
        hint="Remove the blank at the end of the header in the chat template."
        if blank
        else "Ask the questions as open-ended ones, or choose another model.",
        param="base_model",
    )


def _counted(finding: FindingDetail, count: int) -> FindingDetail:
    """The finding with the number of all rows; only the first were kept."""
    return replace(finding, count=count)


def _rows(count: int, name: str) -> str:
    of = "the dataset" if name == HELD_OUT else f"the evaluation set {name}"
    return f"{count:,} row{'s' if count != 1 else ''} of {of}"


def _field(name: str) -> str:
    return "dataset" if name == HELD_OUT else f"evaluation: {name}"

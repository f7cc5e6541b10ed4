"""What `kerazoo.doctor` and `kerazoo.data.verify` find wrong, in words, and the report that holds it."""

import html
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_COLORS = {"error": "#b3261e", "warning": "#8a5a00", "note": "#1f5fa8"}
_SHOWN = 10  # findings of one code that a table or an error shows


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: "error": training fails or learns nothing right. "warning": it probably learns less than it could.
            "note": worth knowing.
        code: Short name of the kind of finding, such as "labels-outside"; it stays the same between versions.
        message: What was seen, and why it matters.
        fix: What to change; empty where the message says it.
        id: The sample; None for a finding on a model, or on the data as a whole.
    """

    severity: Severity
    code: str
    message: str
    fix: str = ""
    id: str | None = None

    @property
    def kind(self) -> str:
        """The code, as the files of `kerazoo.data.verify` call it."""
        return self.code

    @property
    def problem(self) -> str:
        """The message, as the files of `kerazoo.data.verify` call it."""
        return self.message

    def __str__(self) -> str:
        return f"{self.severity.upper()} {self.code}: {self.message}" + (f"\n    {self.fix}" if self.fix else "")


def error(code: str, message: str, fix: str) -> Finding:
    """A finding that stops training, or makes it learn something else."""
    return Finding(severity="error", code=code, message=message, fix=fix)


def warning(code: str, message: str, fix: str) -> Finding:
    """A finding that makes training worse than it could be."""
    return Finding(severity="warning", code=code, message=message, fix=fix)


def note(code: str, message: str, fix: str) -> Finding:
    """A finding that is worth knowing."""
    return Finding(severity="note", code=code, message=message, fix=fix)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `kerazoo.doctor` or `kerazoo.data.verify` found; prints as text, and shows as a table in a notebook.

    Attributes:
        findings: The worst first.
        images: Number of images that were examined.
        batches: Number of batches they came in; None where images were read one by one.
    """

    findings: tuple[Finding, ...]
    images: int
    batches: int | None = None

    verdict: ClassVar[str] = "A model should not be trained like this:"

    @classmethod
    def of(cls, findings: Iterable[Finding], **attributes: Any) -> Self:
        """A report of findings in any order, each kept once, with the other `attributes`."""
        ordered = sorted(dict.fromkeys(findings), key=lambda each: SEVERITIES.index(each.severity))
        return cls(findings=tuple(ordered), **attributes)

    @property
    def ok(self) -> bool:
        """Whether nothing stands against training: there is no error (but perhaps a warning)."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def codes(self) -> tuple[str, ...]:
        """The kinds of the findings, in their order."""
        return tuple(each.code for each in self.findings)

    def _headline(self) -> str:
        """How much was found in how much, in one line."""
        counts = Counter(each.severity for each in self.findings)
        words = [_count(counts[severity], severity) for severity in SEVERITIES if counts[severity]]
        examined = _count(self.images, "image")
        if self.batches is not None:
            examined += f" in {_count(self.batches, 'batch', 'batches')}"
        return f"{', '.join(words) or 'nothing wrong'}, after a look at {examined}"

    def raise_for_errors(self) -> None:
        """Do nothing if there is no error.

        Raises:
            ValueError: There is one; the message holds all of them, of each code the first ten.
        """
        if self.errors:
            raise ValueError("\n".join([self.verdict, *map(str, _first(self.errors))]))

    def to_dict(self) -> dict[str, Any]:
        """The report in types of JSON."""
        findings = [
            {"severity": each.severity, "code": each.code, "message": each.message, "fix": each.fix}
            for each in self.findings
        ]
        return {"batches": self.batches, "images": self.images, "findings": findings}

    def __str__(self) -> str:
        return "\n".join([self._headline(), *map(str, self.findings)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="color:{_COLORS[each.severity]}"><b>{each.severity}</b></td>'
            f"<td><code>{html.escape(each.code)}</code></td>"
            f'<td style="text-align:left">{html.escape(each.message)}<br><b>{html.escape(each.fix)}</b></td></tr>'
            for each in _first(self.findings)
        )
        return f"<p>{html.escape(self._headline())}</p>" + (f"<table>{rows}</table>" if rows else "")


def _first(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first few findings of each code."""
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.code] += 1
        if counts[finding.code] <= _SHOWN:
            yield finding


def _count(number: int, word: str, words: str | None = None) -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"

"""Findings in words, and the report that holds them."""

import html
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_COLORS = {"error": "#b3261e", "warning": "#8a5a00", "note": "#1f5fa8"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: "error": training fails or learns nothing right. "warning": it probably learns less than it could.
            "note": worth knowing.
        code: Short name of the kind of finding, such as "labels-outside"; it stays the same between versions.
        message: What was seen, and why it matters.
        fix: What to change.
    """

    severity: Severity
    code: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity.upper()} {self.code}: {self.message}\n    {self.fix}"


def error(code: str, message: str, fix: str) -> Finding:
    """A finding that stops training, or makes it learn something else."""
    return Finding(severity="error", code=code, message=message, fix=fix)


def warning(code: str, message: str, fix: str) -> Finding:
    """A finding that makes training worse than it could be."""
    return Finding(severity="warning", code=code, message=message, fix=fix)


def note(code: str, message: str, fix: str) -> Finding:
    """A finding that is worth knowing."""
    return Finding(severity="note", code=code, message=message, fix=fix)


@dataclass(frozen=True)
class Report:
    """What `kerazoo.doctor` found; prints as text, and shows as a table in a notebook.

    Attributes:
        findings: The worst first.
        batches: Batches that were looked at.
        images: Images in them.
    """

    findings: tuple[Finding, ...]
    batches: int
    images: int

    @classmethod
    def of(cls, findings: Iterable[Finding], *, batches: int, images: int) -> "Report":
        """A report of findings in any order, each kept once, after a look at `images` in `batches`."""
        unique = dict.fromkeys(findings)
        return cls(tuple(sorted(unique, key=lambda each: SEVERITIES.index(each.severity))), batches, images)

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

    def raise_for_errors(self) -> None:
        """Do nothing if there is no error.

        Raises:
            ValueError: There is one; the message holds all of them.
        """
        if self.errors:
            raise ValueError("\n".join(["The model should not be trained like this:", *map(str, self.errors)]))

    def to_dict(self) -> dict[str, Any]:
        """The report in types of JSON."""
        return {
            "batches": self.batches,
            "images": self.images,
            "findings": [asdict(each) for each in self.findings],
        }

    def __str__(self) -> str:
        return "\n".join([self._headline(), *map(str, self.findings)])

    def _headline(self) -> str:
        counts = [sum(each.severity == severity for each in self.findings) for severity in SEVERITIES]
        words = [_count(number, severity) for number, severity in zip(counts, SEVERITIES, strict=True) if number]
        seen = f"{_count(self.images, 'image')} in {_count(self.batches, 'batch', 'batches')}"
        return f"{', '.join(words) or 'nothing wrong'}, after a look at {seen}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="color:{_COLORS[each.severity]}"><b>{each.severity}</b></td>'
            f"<td><code>{html.escape(each.code)}</code></td>"
            f'<td style="text-align:left">{html.escape(each.message)}<br><b>{html.escape(each.fix)}</b></td></tr>'
            for each in self.findings
        )
        return f"<p>{html.escape(self._headline())}</p>" + (f"<table>{rows}</table>" if rows else "")


def _count(number: int, word: str, words: str | None = None) -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"

"""Reports of `kerazoo.doctor` and `kerazoo.data.verify`: text, table, and errors."""

import pytest

from kerazoo.data.verify import Verification
from kerazoo.findings import Finding, Report, error, note


def test_the_table_holds_no_foreign_html():
    wicked = "<script>alert('x')</script>"
    report = Report.of(
        [note("a", "mild", "fix"), error("b", wicked, wicked), error("b", wicked, wicked)], batches=1, images=2
    )
    assert report.codes == ("b", "a"), "the worst first, each once"
    table = report._repr_html_()
    assert "<script>" not in table
    assert table.count("&lt;script&gt;") == 2
    assert table.count("<tr>") == 2
    empty = Report.of([], batches=1, images=2)
    assert empty._repr_html_() == "<p>nothing wrong, after a look at 2 images in 1 batch</p>"


def test_of_many_findings_of_one_kind_the_first_ten_are_shown():
    def many(severity, code):
        return [Finding(severity=severity, code=code, message=f"{code}{k}.", id=str(k)) for k in range(12)]

    report = Report(findings=(*many("error", "torn"), *many("warning", "odd")), images=30)
    assert report._repr_html_().count("<tr>") == 20
    assert str(report).startswith("12 errors, 12 warnings, after a look at 30 images\nERROR torn: torn0.")
    assert not report.ok
    with pytest.raises(ValueError, match="A model should not be trained like this:\nERROR torn: torn0") as raised:
        report.raise_for_errors()
    assert str(raised.value).count("\n") == 10
    assert "odd" not in str(raised.value)
    assert Report(findings=tuple(many("warning", "odd")), images=30).raise_for_errors() is None


def test_a_finding_goes_by_both_names():
    finding = Finding(severity="error", code="lossy", message="a.png was compressed.", id="a")
    assert (finding.kind, finding.problem) == (finding.code, finding.message)
    assert str(finding) == "ERROR lossy: a.png was compressed."
    assert str(note("a", "mild", "Do it.")) == "NOTE a: mild\n    Do it."


def test_a_verification_is_a_report_of_data():
    torn = Finding(severity="error", code="lossy", message="a.png was compressed.", id="a")
    mixed = Finding(severity="warning", code="mixed", message="b.png is RGB.", id="b")
    report = Verification.of([mixed, torn, torn], images=2, summary="Source: 2 images")
    assert isinstance(report, Verification)
    assert report.findings == (torn, mixed)
    common = Report.of([mixed, torn], images=2).to_dict()
    ours = report.to_dict()
    assert {key: value for key, value in ours.items() if key in common and key != "findings"} == {
        key: value for key, value in common.items() if key != "findings"
    }
    assert all(entry.items() <= own.items() for entry, own in zip(common["findings"], ours["findings"], strict=True))
    with pytest.raises(ValueError, match="A data set should not be used like this:\nERROR lossy: a.png"):
        report.raise_for_errors()

from collections.abc import Iterator
from math import isclose, isfinite, isnan

from adaptare.core.table import Column, Note, Section, Table
from adaptare.exit_codes import ExitCode
from adaptare.search.checking import SiteFinding
from adaptare.workflows.checking import CheckResult

EXIT_CODES = {"applied": ExitCode.DONE, "uncertain": ExitCode.AMBIGUOUS}
SITES: list[Column[SiteFinding]] = [
    Column("site", lambda row: row.path, folds=True),
    Column("rank", lambda row: str(row.rank)),
    Column("scale", lambda row: f"{row.scale:.3g}", 1),
    Column("applied at", lambda row: "not known" if isnan(row.factor) else f"{row.factor:.2f} x"),
    Column("file", lambda row: row.note, 2, folds=True),
]


def sections(result: CheckResult) -> Iterator[Section]:
    """The answer in a sentence, the sites that are applied wrongly, and how far the answer goes."""
    finding = result.finding
    wrong = [site for site in finding.sites if not isclose(site.factor, 1.0, rel_tol=1e-3)]
    yield f"{_answer(result, wrong)}{f': {finding.reason}' if finding.reason else ''}"
    if wrong and finding.verdict == "applied wrongly":
        yield Table("Sites that are applied wrongly", SITES, wrong)
    if isnan(finding.scale):
        return
    scale = f"{round(finding.scale, 2) + 0.0:.2f}"  # no minus sign before zero
    yield f"scale by regression {scale}; logits differ from PEFT's by at most {finding.difference:.1e} of the largest"
    if finding.verdict == "applied":
        yield Note(f"a site with less than {100 * finding.resolution:.1g} % of the adapter's effect would not be seen")


def exit_code(result: CheckResult) -> int:
    """0 if the adapter is applied right, 4 if that is not certain, else 1."""
    return EXIT_CODES.get(result.finding.verdict, ExitCode.ANSWER_IS_NO)


def _answer(result: CheckResult, wrong: list[SiteFinding]) -> str:
    """Verdict with factors and number of sites."""
    finding = result.finding
    if finding.verdict != "applied wrongly":
        words = finding.verdict
        by_rule = ", by its rule" if result.runtime.read is None else ""
        return f"{words} in {result.runtime.name}{by_rule}" if words == "applied" else words
    factors = sorted({round(site.factor, 2) for site in wrong if isfinite(site.factor)})
    where = f"on {len(wrong)} of {len(finding.sites)} sites"
    if len(wrong) == 1:
        where += f" ({wrong[0].path})"
    if not factors:
        return f"applied wrongly {where}"
    if factors == [0.0]:
        return f"not applied {where}"
    span = f"{factors[0]:.2f} x" if len(factors) == 1 else f"{factors[0]:.2f} to {factors[-1]:.2f} x"
    return f"applied at {span} {where}"

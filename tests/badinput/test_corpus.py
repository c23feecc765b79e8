"""Every case of the corpus comes out as it must; ``make badinput`` prints the same as a table."""

from __future__ import annotations

import pytest

from tests.badinput.case import Case
from tests.badinput.corpus import CASES
from tests.badinput.sandbox import run_case


def marked(case: Case) -> pytest.param:  # type: ignore[valid-type]
    return pytest.param(
        case, id=case.name, marks=[pytest.mark.slow] if case.slow or case.brings_torch else []
    )


@pytest.mark.parametrize("case", map(marked, CASES))
def test_case(case: Case) -> None:
    found, _ = run_case(case)
    assert case.expects(found), f"{found.outcome}: {found.reason}"


def test_the_corpus_is_whole() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 25

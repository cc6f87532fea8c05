import pytest

from tests.compositions.cases import Case, cases


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_composite_becomes_what_its_case_expects(case: Case) -> None:
    assert case.actual() == case.expected, case.composite["reason"]

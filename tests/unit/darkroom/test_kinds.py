"""The table of kinds has what the compositions use, and no more."""

from darkroom.local.kinds import known_kinds
from darkroom_function.managed import Kind


def test_the_table_has_the_kinds_that_the_compositions_use_and_no_others() -> None:
    assert known_kinds() == {kind.value for kind in Kind}

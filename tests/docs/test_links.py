"""What a page leads to is there, and what it shows is shown whole."""

import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import ROOT, anchors, inline_code, links, pages, tokens

#: What begins with one of these, in code within a sentence, is a path in the repository.
_FOLDERS = ("agent", "api_lambda", "apps", "contract", "crossplane", "demo", "docs", "engines", "scripts", "tests")


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page: str) -> None:
    wrong = [link for link in links(page) if "://" not in link and not _is_there(page, link)]
    assert not wrong


def _is_there(page: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    if not target.exists():
        return False
    return not anchor or anchor in anchors(str(target.resolve().relative_to(ROOT)))


@pytest.mark.parametrize("page", pages())
def test_every_path_that_is_named_is_there_or_in_the_folder_that_the_page_is_about(page: str) -> None:
    own = (ROOT / page).parent
    wrong = [path for path in _paths(page) if not any(ROOT.glob(path)) and not any(own.rglob(path))]
    assert not wrong


def _paths(page: str) -> Iterator[str]:
    for code in inline_code(page):
        if re.fullmatch(rf"({'|'.join(_FOLDERS)})/[\w./*-]*", code):
            yield re.sub(r"/$", "", code)


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith("docs/") and page != "docs/README.md"])
def test_the_index_leads_to_every_page(page: str) -> None:
    assert page.removeprefix("docs/") in {link.partition("#")[0] for link in links("docs/README.md")}


@pytest.mark.parametrize("page", pages())
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page: str) -> None:
    wrong, head, fenced = [], 0, False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        cells = 0 if fenced or not line.lstrip().startswith("|") else len(re.findall(r"(?<!\\)\|", line))
        if cells and head and cells != head:
            wrong.append(number)
        head = head or cells if cells else 0
    assert not wrong


@pytest.mark.parametrize("page", pages())
def test_every_row_is_in_a_table(page: str) -> None:
    assert not [token.content for token in tokens(page) if token.type == "inline" and token.content.startswith("|")]

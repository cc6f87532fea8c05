import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.things import NAMES, THINGS
from darkroom_demo.diffusion.words import MOST_THINGS, Scene, Wanted, read

NAMES_BY_LENGTH = sorted(NAMES, key=len)


def things(prompt: str) -> list[tuple[str, str | None]]:
    return [(wanted.thing, wanted.colour) for wanted in read(prompt).things]


@given(
    st.text() | st.lists(st.sampled_from([*NAMES, *COLOURS, "two", "sky", "night", ",", "<", "(", ":1"])).map(" ".join)
)
def test_any_text_is_read(prompt: str) -> None:
    scene = read(prompt)
    assert len(scene.things) <= MOST_THINGS
    assert {wanted.thing for wanted in scene.things} <= set(THINGS)
    assert {wanted.colour for wanted in scene.things} <= {None, *COLOURS}
    assert not {*scene.unknown} & {*NAMES}


@given(st.sampled_from(NAMES_BY_LENGTH), st.sampled_from(["{}", "a {}", "The {}!", "({}:1.3)", "a picture of {}."]))
def test_every_name_means_its_thing_whatever_is_around_it(name: str, around: str) -> None:
    assert read(around.format(name.title())) == Scene((Wanted(NAMES[name]),), None, (), ())


@pytest.mark.parametrize("name", [name for name in NAMES_BY_LENGTH if name[-1] not in "sy"])
def test_a_plural_is_one_of_its_thing(name: str) -> None:
    assert things(f"{name}s") == [(NAMES[name], None)]


@pytest.mark.parametrize(
    ("plural", "thing"), [("strawberries", "strawberry"), ("wolves", "wolf"), ("knives", "sword"), ("foxes", "fox")]
)
def test_a_plural_may_change_the_end_of_its_word(plural: str, thing: str) -> None:
    assert things(plural) == [(thing, None)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a fire engine on fire", ["fire engine", "fire"]),
        ("a teddy bear and a bear", ["teddy bear", "bear"]),
        ("a cat face, a cat", ["cat face", "cat"]),
        ("a tennis ball", ["tennis ball"]),
    ],
)
def test_the_longest_name_wins(prompt: str, expected: list[str]) -> None:
    assert [thing for thing, _ in things(prompt)] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red apple and a green apple", [("apple", "red"), ("apple", "green")]),
        ("an apple, green", [("apple", "green")]),
        ("a blue car and a dog", [("car", "blue"), ("dog", None)]),
        ("a golden, shiny crown", [("crown", None)]),
        ("a gray shiny robot", [("robot", "grey")]),
        ("a violet umbrella", [("umbrella", "purple")]),
        ("a red, a car", [("car", None)]),
    ],
)
def test_a_colour_goes_with_the_thing_after_it_or_else_with_the_one_before(
    prompt: str, expected: list[tuple[str, str | None]]
) -> None:
    assert things(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("an orange", [("orange", None)]),
        ("an orange and a pear", [("orange", None), ("pear", None)]),
        ("an orange car", [("car", "orange")]),
        ("an orange orange", [("orange", "orange")]),
        ("a green orange", [("orange", "green")]),
        ("oranges on an orange wall", [("orange", None)]),
        ("a gold medal", [("medal", None)]),
    ],
)
def test_a_word_that_is_a_colour_and_a_thing_is_what_fits(prompt: str, expected: list[tuple[str, str | None]]) -> None:
    assert things(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "count"), [("two cats", 2), ("3 black cats", 3), ("a pair of cats", 2), ("six fluffy cats", 6)]
)
def test_a_number_repeats_its_thing(prompt: str, count: int) -> None:
    assert [thing for thing, _ in things(prompt)] == ["cat"] * count


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a teddy-bear in a tshirt", ["teddy bear", "t-shirt"]),
        ("a red-hot chili", ["chili"]),
        ("a t shirt", ["t-shirt"]),
        ("the dog's car", ["dog", "car"]),
    ],
)
def test_hyphens_and_endings_make_no_other_word(prompt: str, expected: list[str]) -> None:
    assert [thing for thing, _ in things(prompt)] == expected


@pytest.mark.parametrize("prompt", ["a cat without a dog", "a cat, no dogs", "no dog, a cat"])
def test_what_is_to_be_absent_is(prompt: str) -> None:
    assert read(prompt) == Scene((Wanted("cat"),), None, (), ())


@pytest.mark.parametrize(("prompt", "left_out"), [("a red and green apple", "red"), ("apple, blue, grey", "grey")])
def test_a_colour_that_nothing_has_is_told(prompt: str, left_out: str) -> None:
    assert read(prompt).left_out == (left_out,)


def test_a_number_ends_with_its_phrase() -> None:
    assert [thing for thing, _ in things("two, cat, three dogs and a fox")] == ["cat", "dog", "dog", "dog", "fox"]


def test_there_is_room_for_six_things() -> None:
    scene = read("five cats, five dogs, a fox")
    assert [wanted.thing for wanted in scene.things] == ["cat"] * 5 + ["dog"]
    assert scene.left_out == ("dog", "fox")


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [("a car, blue background", "blue"), ("a car before a white wall", "white"), ("grey sky, a car", "grey")],
)
def test_a_backdrop_has_the_colour_before_it(prompt: str, colour: str) -> None:
    assert read(prompt) == Scene((Wanted("car"),), COLOURS[colour], (), ())


def test_a_backdrop_without_a_colour_is_any() -> None:
    assert read("a red car, background").backdrop is None


def test_the_night_is_dark() -> None:
    backdrop = read("a car at night").backdrop
    assert backdrop is not None
    assert max(backdrop) < 0.3


def test_words_that_nothing_is_known_of_are_told_once_and_in_order() -> None:
    scene = read("a Majestic fox, trending on artstation, majestic, 8k")
    assert scene.things == (Wanted("fox"),)
    assert scene.unknown == ("majestic", "trending", "artstation", "8k")


@pytest.mark.parametrize(
    "prompt",
    [
        "(apple:1.3)",
        "((apple))",
        "[apple]",
        "apple <lora:add_detail:0.8>",
        "{apple}",
        r"\(apple\)",
        "apple BREAK",
        "(apple: 0.5)",
        "<lora:x:1>apple",
    ],
)
def test_the_engines_markup_is_no_part_of_a_prompts_words(prompt: str) -> None:
    assert read(prompt) == Scene((Wanted("apple"),), None, (), ())


def test_a_break_keeps_the_prompts_chunks_apart() -> None:
    assert things("an apple BREAK a pear") == [("apple", None), ("pear", None)]
    assert read("an apple BREAK a pear").unknown == ()


def test_brackets_that_are_never_closed_are_read_in_time_that_grows_with_the_prompt() -> None:
    assert read("<" * 200_000 + "apple").things == (Wanted("apple"),)

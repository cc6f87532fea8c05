"""Draws 64 prompts in a grid, each with its words below: what docs/ shows of the demo.

`python -m training.grid [FILE]`. Needs neither the emoji nor torch.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from training.pictures import draw

GRID = Path("docs/demo-grid.png")
COLUMNS = 8
#: Pixels.
SIDE, CAPTION, GAP, TEXT = 160, 22, 6, 13

PROMPTS = (
    *("a fox", "a panda", "a penguin", "an elephant", "a butterfly", "a turtle", "a lion", "an octopus"),
    *("a puppy", "a kitten", "a bunny", "a bumblebee", "a ladybird", "a unicorn", "a frog", "an owl at night"),
    *("a sunflower", "a rose", "a cactus", "a palm tree", "a maple leaf", "a mushroom", "blue tulip", "a pine tree"),
    *("green apple", "red apple", "a banana", "a strawberry", "a carrot", "an aubergine", "a watermelon", "an avocado"),
    *("a burger", "a slice of pizza", "a donut", "a croissant", "an ice cream", "a cup of coffee", "sushi", "popcorn"),
    *("blue car", "a fire truck", "a bicycle", "a sailboat", "a rocket", "a helicopter", "a house", "a castle"),
    *("red heart", "purple heart", "a yellow umbrella", "a guitar", "a trophy", "a camera", "a light bulb", "a crown"),
    *("a cat and a dog", "sun and cloud", "a burger and fries", "two green frogs"),
    *("the moon at night", "a snowman, blue sky", "a rainbow", "a pink elephant"),
)


def grid() -> Image.Image:
    """Draw the prompts."""
    across, down = SIDE + GAP, SIDE + CAPTION + GAP
    rows = -(-len(PROMPTS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * across + GAP, rows * down + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for row in range(rows):
        prompts = PROMPTS[row * COLUMNS : (row + 1) * COLUMNS]
        for column, (prompt, picture) in enumerate(zip(prompts, draw(prompts, SIDE), strict=True)):
            left, top = GAP + column * across, GAP + row * down
            sheet.paste(picture, (left, top))
            pen.text((left + SIDE / 2, top + SIDE + CAPTION / 2), prompt, "black", font, anchor="mm")
        print(f"{row + 1} of {rows} rows", flush=True)
    return sheet


def main() -> None:
    """Write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=GRID)
    args = parser.parse_args()
    # In 256 colours a third of the size.
    grid().quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(args.file, optimize=True)
    print(f"{args.file}: {args.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Pictures of animals, drawn from the sprites of Noto Color Emoji, with captions that describe a part of each."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIZE = 64  # pixels of a scene's side
SPRITE_PIXELS = 109  # the only size that Noto's bitmaps have

ANIMALS = {
    "hippopotamus": "🦛",
    "snail": "🐌",
    "leopard": "🐆",
    "crocodile": "🐊",
    "lobster": "🦞",
    "octopus": "🐙",
    "cat": "🐈",
    "dog": "🐕",
    "rabbit": "🐇",
    "zebra": "🦓",
    "bird": "🐦",
    "sheep": "🐑",
    "cow": "🐄",
    "lion": "🦁",
    "bear": "🐻",
    "fox": "🦊",
    "butterfly": "🦋",
    "fish": "🐟",
    "whale": "🐋",
    "turtle": "🐢",
    "frog": "🐸",
    "duck": "🦆",
    "bee": "🐝",
    "pig": "🐖",
}
IRREGULAR_PLURALS = {
    "hippopotamus": "hippopotamuses",
    "octopus": "octopuses",
    "sheep": "sheep",
    "fish": "fish",
    "fox": "foxes",
    "butterfly": "butterflies",
}
# name -> hue in [0, 1], saturation range, value range
COLOURS = {
    "red": (0.0, (0.55, 0.95), (0.6, 0.95)),
    "orange": (0.08, (0.6, 0.95), (0.8, 1.0)),
    "yellow": (0.145, (0.5, 0.9), (0.85, 1.0)),
    "green": (0.36, (0.4, 0.85), (0.4, 0.85)),
    "blue": (0.6, (0.45, 0.9), (0.5, 0.95)),
    "purple": (0.77, (0.35, 0.8), (0.45, 0.85)),
    "pink": (0.92, (0.2, 0.5), (0.9, 1.0)),
    "brown": (0.07, (0.45, 0.7), (0.3, 0.5)),
    "gray": (0.0, (0.0, 0.04), (0.35, 0.7)),
    "white": (0.0, (0.0, 0.04), (0.93, 1.0)),
}
PATTERNS = ("plain", "graded", "striped", "checked", "noisy")
COUNTS = {1: "one", 2: "two", 3: "three"}
SIDES = {1: (44, 61), 2: (28, 36), 3: (22, 29)}  # pixels of a sprite's longer side, by the number of animals
CAPTIONS_PER_SCENE = 4


@dataclass(frozen=True)
class Scene:
    """Content of a picture."""

    animal: str
    count: int
    colour: str
    pattern: str

    def captions(self) -> list[str]:
        """Four captions: without background, with its colour, with its pattern and with both."""
        name = self.animal if self.count == 1 else IRREGULAR_PLURALS.get(self.animal, self.animal + "s")
        subject = with_article(name) if self.count == 1 else f"{COUNTS[self.count]} {name}"
        return [
            subject,
            f"{subject} on {with_article(self.colour)} background",
            f"{subject} on a {self.pattern} background",
            f"{subject} on {with_article(self.colour)} {self.pattern} background",
        ]


def with_article(noun: str) -> str:
    """Noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def load_sprites(font: Path = FONT) -> dict[str, Image.Image]:
    """Sprites of the animals as RGBA pictures, cropped to the animal.

    Raises:
        FileNotFoundError: There is no file at `font`.
    """
    if not font.is_file():
        raise FileNotFoundError(f"no font at {font}: install Debian's fonts-noto-color-emoji or pass --font")
    face = ImageFont.truetype(str(font), SPRITE_PIXELS)
    sprites = {}
    for animal, character in ANIMALS.items():
        canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((8, 8), character, font=face, embedded_color=True)
        sprites[animal] = canvas.crop(canvas.getbbox())
    return sprites


def _shade(colour: str, rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = COLOURS[colour]
    jitter = (hue + rng.uniform(-0.015, 0.015)) % 1
    return 255 * np.array(colorsys.hsv_to_rgb(jitter, rng.uniform(*saturation), rng.uniform(*value)))


def _background(colour: str, pattern: str, rng: np.random.Generator) -> np.ndarray:
    """Background of a scene, a (SIZE, SIZE, 3) float array in [0, 255]."""
    base = _shade(colour, rng)
    other = np.clip(base * rng.uniform(0.55, 0.8) if base.mean() > 110 else base + rng.uniform(50, 90), 0, 255)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    angle = rng.uniform(0, 2 * np.pi)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    if pattern == "plain":
        mix = np.zeros((SIZE, SIZE))
    elif pattern == "graded":
        mix = (along - along.min()) / (along.max() - along.min())
    elif pattern == "striped":
        mix = ((along / rng.uniform(5, 9)) % 2 < 1).astype(float)
    elif pattern == "checked":
        cell = int(rng.integers(7, 13))
        mix = ((rows // cell + columns // cell) % 2).astype(float)
    else:
        coarse = Image.fromarray(rng.uniform(0, 1, (16, 16)).astype(np.float32))
        mix = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return base + mix[..., None] * (other - base)


def _place(count: int, sides: list[int], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Centres of the animals in pixels. One animal is near the middle, several are on a rotated line or triangle."""
    if count == 1:
        slack = (SIZE - sides[0]) / 2 + 2
        return [(SIZE / 2 + rng.uniform(-slack, slack), SIZE / 2 + rng.uniform(-slack, slack))]
    radius, start = (16.5, rng.uniform(-0.6, 0.6)) if count == 2 else (18.5, rng.uniform(0, 2 * np.pi))
    turns = [start + 2 * np.pi * k / count for k in range(count)]
    return [
        (SIZE / 2 + radius * np.cos(turn) + rng.uniform(-2, 2), SIZE / 2 + radius * np.sin(turn) + rng.uniform(-2, 2))
        for turn in turns
    ]


def draw(scene: Scene, sprites: dict[str, Image.Image], rng: np.random.Generator) -> np.ndarray:
    """Picture of the scene, (SIZE, SIZE, 3) uint8. Sprites vary in size, position, flip and tilt."""
    picture = Image.fromarray(_background(scene.colour, scene.pattern, rng).clip(0, 255).astype(np.uint8))
    sides = [int(rng.integers(*SIDES[scene.count])) for _ in range(scene.count)]
    for side, (x, y) in zip(sides, _place(scene.count, sides, rng), strict=True):
        sprite = sprites[scene.animal]
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
        scale = side / max(sprite.size)
        sprite = sprite.resize(
            (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale))), Image.Resampling.LANCZOS
        )
        picture.paste(sprite, (round(x - sprite.width / 2), round(y - sprite.height / 2)), sprite)
    return np.asarray(picture)


def random_scene(rng: np.random.Generator) -> Scene:
    """A random scene. Seven in ten show a single animal."""
    return Scene(
        animal=str(rng.choice(list(ANIMALS))),
        count=int(rng.choice(list(COUNTS), p=[0.7, 0.15, 0.15])),
        colour=str(rng.choice(list(COLOURS))),
        pattern=str(rng.choice(PATTERNS)),
    )


def draw_many(number: int, seed: int, font: Path = FONT) -> tuple[Tensor, list[Scene]]:
    """Pictures (number, 3, SIZE, SIZE) uint8 and their scenes."""
    sprites, rng = load_sprites(font), np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(number)]
    pictures = np.stack([draw(scene, sprites, rng) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), scenes

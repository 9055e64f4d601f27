#!/usr/bin/env python3
"""Makes patches.h5: satellite patches that nobody has taken, as `--data arrays:patches.h5` reads them.

12 channels of float32, as reflectances are, 16×16 pixels, five kinds of land that are not equally common, from 48
scenes. A scene has a light and a haze of its own, so that patches of one scene are alike beside what is on them:
whoever validates on scenes that were trained on flatters the network. Every number follows from the seed.

    python make_patches.py patches.h5
"""

from __future__ import annotations

import sys

import h5py
import numpy as np

CLASSES = {"water": 0.06, "forest": 0.44, "field": 0.30, "town": 0.14, "quarry": 0.06}  # how common each is
CHANNELS, SIDE = 12, 16
SCENES, OF_A_SCENE = 48, 25
TEST_SCENES = 12
SEED = 12


def main(path: str) -> None:
    generator = np.random.default_rng(SEED)
    signatures = generator.normal(0.25, 0.06, size=(len(CLASSES), CHANNELS))
    grain = generator.uniform(0.5, 3.0, size=len(CLASSES))  # wavelengths of what lies on the ground, in a side
    images, labels, scenes = [], [], []
    for scene in range(SCENES):
        light, haze = generator.uniform(0.8, 1.2), generator.normal(0.0, 0.03, size=CHANNELS)
        for _ in range(OF_A_SCENE):
            kind = generator.choice(len(CLASSES), p=list(CLASSES.values()))
            images.append(light * patch(signatures[kind], grain[kind], generator) + haze)
            labels.append(kind)
            scenes.append(f"scene {scene:02}")
    pixels, known = np.array(images, dtype=np.float32), np.array(labels)
    testing = np.array(scenes) >= f"scene {SCENES - TEST_SCENES:02}"
    with h5py.File(path, "w") as file:
        file["classes"] = list(CLASSES)
        for part, chosen in (("train", ~testing), ("test", testing)):
            file.create_dataset(f"{part}/images", data=pixels[chosen], compression="gzip")
            file[f"{part}/labels"] = known[chosen]
        file["groups"] = np.array(scenes, dtype=object)[~testing]


def patch(signature: np.ndarray, waves: float, generator: np.random.Generator) -> np.ndarray:
    """One patch, (SIDE, SIDE, CHANNELS): the signature of what is there, stripes of its grain, and noise."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle, phase = generator.uniform(0.0, np.pi), generator.uniform(0.0, 2.0 * np.pi)
    stripes = np.sin(2.0 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return signature + 0.05 * stripes[..., None] + generator.normal(0.0, 0.09, size=(SIDE, SIDE, CHANNELS))


if __name__ == "__main__":
    main(sys.argv[1])

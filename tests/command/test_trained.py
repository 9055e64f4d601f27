"""What is handed out of a retraining computes what was trained, from pixels to classes; tools/predict.py uses it."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import demand
import numpy as np
import pytest
import torch
from PIL import Image
from toolruns import INPUTS, POOLING, retrained
from torch import Tensor

from hpcnas.analysis import prediction
from hpcnas.architecture import expansion
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.command import common, export, predict
from hpcnas.data import image_file
from hpcnas.errors import Error
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Inputs, Origin
from hpcnas.training import checkpoints
from hpcnas.training.network import Network

torch.set_num_threads(1)
GREY = Inputs(Skeleton(1, 12, 12, 7, 2, (1, 2), "strided"), tuple("abcdefg"), (20.0,), (40.0,), 16)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def with_weights(folder: Path, inputs: Inputs, seeds: int = 2) -> Path:
    """A retraining whose weights, and batch statistics, are random, others for each seed."""
    retrained(folder, [0.75, 0.875][:seeds], Origin("cell.toml", str(POOLING.space)), inputs=inputs, found=POOLING)
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = Network(expansion.expand(POOLING), inputs.skeleton)
        for _ in range(2):
            network(3 * torch.randn(8, inputs.skeleton.image_channels, 8, 8) + 1)
        checkpoints.save(record_file.weights_path(folder, seed), network.state_dict())
    return folder


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_weights(tmp_path_factory.mktemp("trained") / "large", INPUTS)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_weights(tmp_path_factory.mktemp("trained") / "grey", GREY, seeds=1)


@pytest.fixture(scope="module")
def onnx_file(colour: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second seed's."""
    for needed in ("onnx", "onnxruntime"):
        demand.package(needed)
    return written("onnx", f"{colour}:1", tmp_path_factory.mktemp("onnx") / "network.onnx")


def reference(folder: Path, pixels: Tensor, seed: int = 0) -> Tensor:
    """Scores of the trained network: float64 (N, classes)."""
    stored = record_file.read(folder)
    network = Network(expansion.expand(stored.genotype), stored.inputs.skeleton)
    network.load_state_dict(torch.load(record_file.weights_path(folder, seed), weights_only=True))
    statistics = torch.tensor([stored.inputs.mean, stored.inputs.std], dtype=torch.float64)
    mean, std = statistics[:, :, None, None]
    with torch.no_grad():
        return network.double().eval()((pixels - mean) / std)


def pixels_like(folder: Path, *sides: int) -> Tensor:
    channels = record_file.read(folder).inputs.skeleton.image_channels
    return torch.randint(256, (3, channels, *sides), generator=torch.Generator().manual_seed(0)).double()


def written(format: str, source: Path | str, path: Path) -> Path:
    assert export.main([format, str(source), "-o", str(path)]) == 0
    return path


def module(source: Path | str, folder: Path) -> ModuleType:
    """The exported Python file, imported."""
    spec = importlib.util.spec_from_file_location("trained_module", written("module", source, folder / "network.py"))
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# ── handed out ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["colour", "grey"])
def test_the_module_with_its_weights_is_the_trained_network(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    found = module(folder, tmp_path)
    classifier = found.load(written("weights", folder, tmp_path / "weights.pt"))
    pixels = pixels_like(folder, 12, 9)
    expected = reference(folder, pixels)
    assert expected.std() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(classifier(pixels.float()).double(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(classifier.double()(pixels), expected, rtol=1e-9, atol=1e-9)
    assert list(classifier.state_dict())[0] == "network." + list(found.Network().state_dict())[0]
    inputs = record_file.read(folder).inputs
    assert (found.CLASSES, found.RESIZE) == (inputs.class_names, inputs.resize)
    assert (found.HEIGHT, found.WIDTH) == (inputs.skeleton.height, inputs.skeleton.width)


def test_what_the_module_sees_of_an_image_is_what_was_tested_on(grey: Path, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 31), dtype=np.uint8)).resize((31, 50))
    expected = torch.tensor(image_file.pixels(image_file.middle(image, 16, 12, 12))).permute(2, 0, 1)
    seen = module(grey, tmp_path).view(torch.from_numpy(np.array(image)).float()[None, None])
    assert seen.shape == (1, 1, 12, 12)
    torch.testing.assert_close(seen[0], expected.float(), rtol=0, atol=1.5)  # pillow rounds twice
    whole = torch.rand(2, 1, 16, 16)
    assert torch.equal(module(grey, tmp_path).view(whole), whole[:, :, 2:14, 2:14])


def test_images_that_are_not_square_are_seen_whole_as_they_were_tested(tmp_path: Path) -> None:
    wide = replace(INPUTS, skeleton=replace(INPUTS.skeleton, height=8, width=14))
    folder = with_weights(tmp_path / "wide", wide, seeds=1)
    image = np.random.default_rng(0).integers(0, 256, (8, 14, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "wide.png")
    whole = torch.from_numpy(image).permute(2, 0, 1).float()
    exported = module(folder, tmp_path)
    assert torch.equal(torch.from_numpy(prediction.pixels(prediction.model(str(folder)), tmp_path / "wide.png")), whole)
    assert torch.equal(exported.view(whole[None])[0], whole)
    upright = torch.full((1, 3, 20, 8), 9.0)  # narrower: black beside it
    assert torch.equal(exported.view(upright), torch.nn.functional.pad(upright[:, :, :8], (3, 3)))
    odd = torch.full((1, 3, 8, 11), 9.0)  # 3 columns are black: one before, two behind
    assert torch.equal(exported.view(odd), torch.nn.functional.pad(odd, (1, 2)))
    for pixels in (upright, odd):
        seen = image_file.middle(image_file.from_pixels(pixels[0, :1].permute(1, 2, 0).byte().numpy()), 8, 8, 14)
        assert torch.equal(torch.tensor(np.asarray(seen)).float(), exported.view(pixels)[0, 0])


def test_a_seed_is_chosen_by_its_number_and_the_least_by_default(colour: Path, tmp_path: Path) -> None:
    for source, seed in ((str(colour), 0), (f"{colour}:1", 1)):
        path = written("weights", source, tmp_path / f"{seed}.pt")
        assert path.read_bytes() == record_file.weights_path(colour, seed).read_bytes()


def test_the_module_says_what_it_is_and_is_well_formed(colour: Path, tmp_path: Path) -> None:
    path = written("module", colour, tmp_path / "network.py")
    text = path.read_text()
    assert "The network of the retraining large of cell.toml, seed 0." in text
    assert "Accuracy: 0.7500 on 10,000 test images (all 2 seeds: 81.25 ± 8.84 %)" in text
    settings = ["--config", str(Path(__file__).parent.parent.parent / "pyproject.toml"), "--no-cache", str(path)]
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_onnx_takes_pixels_and_computes_the_same(colour: Path, onnx_file: Path) -> None:
    import onnx
    import onnxruntime

    pixels = pixels_like(colour, 10, 7)
    (scores,) = onnxruntime.InferenceSession(onnx_file).run(["scores"], {"images": pixels.float().numpy()})
    np.testing.assert_allclose(scores, reference(colour, pixels, seed=1).numpy(), rtol=1e-4, atol=1e-4)
    told = {item.key: item.value for item in onnx.load(onnx_file).metadata_props}
    assert (told["resize"], told["height"], told["width"]) == ("8", "8", "8")
    assert json.loads(told["classes"]) == ["cat", "dog", "owl", "emu"]
    assert (told["weights"], told["input"]) == ("weights-1.pt", "pixels, 0 to 255")


def test_the_genotype_of_a_retraining_is_text_too(colour: Path, tmp_path: Path) -> None:
    assert written("text", colour, tmp_path / "cell.toml").read_text() == POOLING.text()


def refused(*words: object) -> str:
    with pytest.raises(Error) as ended:
        export.main(list(map(str, words)))
    return str(ended.value)


def test_mistakes_are_one_line(colour: Path, tmp_path: Path) -> None:
    begun = retrained(tmp_path / "begun", [])
    out = ("-o", tmp_path / "out")
    assert "no training is complete yet" in refused("weights", begun, *out)
    assert "expected the seed of a complete training (0, 1), got 5" in refused("weights", f"{colour}:5", *out)
    assert "a search keeps no weights" in refused("weights", "paper", *out)
    assert "expected --output FILE" in refused("weights", colour)
    assert "it has its network and its weights" in refused("module", colour, "--channels", "3", *out)
    empty = retrained(tmp_path / "lost", [0.5])
    assert "weights-0.pt: expected a state_dict" in refused("onnx", empty, *out)
    assert "weights-0.pt, but there is no such file" in refused("weights", empty, *out)
    assert not (tmp_path / "out").exists()


# ── used ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_weights_are_not_written_over_themselves(colour: Path) -> None:
    file = record_file.weights_path(colour, 0)
    before = file.read_bytes()
    assert "are the same file" in refused("weights", colour, "-o", file)
    assert file.read_bytes() == before


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """PNG and JPEG files of several sizes and modes."""
    files = []
    for name, colour in COLOURS.items():
        files.append(tmp_path / f"{name}.png")
        Image.new("RGB", (8, 8), colour).save(files[-1])
    noise = np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    Image.fromarray(noise).convert("P").save(tmp_path / "palette.png")
    return [*files, tmp_path / "large.jpg", tmp_path / "palette.png"]


def predicted(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, object]]:
    assert predict.main(["--json", *map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


def test_classes_are_those_of_the_trained_network(
    colour: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = predicted(capsys, colour, *images, "--top", 4)
    assert [one["file"] for one in found] == list(map(str, images))
    for one, value in zip(found, COLOURS.values(), strict=False):
        pixels = torch.tensor(value, dtype=torch.float64)[None, :, None, None].expand(1, 3, 8, 8)
        expected = reference(colour, pixels).softmax(dim=1)[0]
        classes, order = one["classes"], expected.argsort(descending=True)
        assert isinstance(classes, list) and len(classes) == 4
        assert [c["class"] for c in classes] == [INPUTS.class_names[place] for place in order]
        assert [c["probability"] for c in classes] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-4)


def test_onnx_predicts_the_same(
    colour: Path, onnx_file: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    first, second = predicted(capsys, f"{colour}:1", *images), predicted(capsys, onnx_file, *images)
    for one, two in zip(first, second, strict=True):
        assert [c["class"] for c in one["classes"]] == [c["class"] for c in two["classes"]]  # type: ignore[attr-defined]
        for a, b in zip(one["classes"], two["classes"], strict=True):  # type: ignore[call-overload]
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_a_network_for_grey_images_takes_those_in_colour(
    grey: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(predicted(capsys, grey, *images)) == 5


def test_the_table_and_what_cannot_be_read(
    colour: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(images[3].read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture")
    broken = [tmp_path / "broken.jpg", tmp_path / "text.png", tmp_path / "nowhere.png"]
    assert predict.main([str(colour), *map(str, [broken[0], images[0], *broken[1:]]), "--top", "2"]) == 1
    said = capsys.readouterr()
    header, line = said.out.splitlines()
    assert header.split() == ["image", "class", "1", "%", "class", "2", "%"] and line.startswith(f"{images[0]}  ")
    *messages, last = said.err.splitlines()
    assert [message.split(":")[0] for message in messages] == list(map(str, broken))
    assert "No such file or directory" in said.err and last == "3 of 4 images cannot be read"


def test_a_folder_is_classified_and_class_folders_say_how_many_are_right(
    colour: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each picture lies in the folder of the class that the network finds, but for one; one cannot be read."""
    found = {str(one["file"]): one["classes"][0]["class"] for one in predicted(capsys, colour, *images, "--top", 1)}  # type: ignore[index]
    test = tmp_path / "test"
    for name in INPUTS.class_names:
        (test / name).mkdir(parents=True)
    right = [shutil.copy(file, test / found[str(file)] / Path(file).name) for file in images]
    other = next(name for name in INPUTS.class_names if name != found[str(images[0])])
    shutil.copy(images[0], test / other / "wrong.png")
    (test / other / "broken.png").write_text("no picture")
    (test / "elsewhere").mkdir()
    shutil.copy(images[1], test / "elsewhere")
    (test / "list").write_bytes(os.fsencode(str(images[2])) + b"\n\n")
    written_to = tmp_path / "found.csv"
    told = ["--list", test / "list", "--csv", written_to, "--top", "2"]
    assert predict.main(list(map(str, [colour, test, *told]))) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "accuracy 0.8333: 5 of 6 images are of their class"
    assert said.err.splitlines()[-1] == "1 of 9 images cannot be read"
    with open(written_to, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["file", "label", "error", "class_1", "probability_1", "class_2", "probability_2"]
    assert {row["file"] for row in rows if row["label"] and row["label"] == row["class_1"]} == set(map(str, right))
    assert [row["label"] for row in rows if row["file"] in (str(test / "elsewhere" / "green.png"), str(images[2]))] == [
        "", "",
    ]  # fmt: skip
    assert [row["error"] for row in rows if row["file"].endswith("broken.png")] == [
        "no image, or of a format that pillow does not read"
    ]
    json_too = predicted(capsys, colour, test / "elsewhere", test / found[str(images[0])])
    assert "label" not in json_too[0]  # of the folder that was given the name says nothing


def test_wrong_files_of_predict_are_a_line(colour: Path, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for words, expected in {
        (tmp_path / "nothing",): "expected pictures (.jpg, ",
        ("--list", tmp_path / "none"): "none: expected a file with a name a line: No such file",
        (images[0], "--csv", tmp_path): "expected to write it: Is a directory",
    }.items():
        with pytest.raises(Error, match=re.escape(expected)):
            predict.main(list(map(str, [colour, *words])))
    with pytest.raises(SystemExit):
        predict.main([str(colour)])


def test_names_of_classes_of_any_bytes_are_handed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("b\udcfc", 'q"\n\udcfc\\', "\U0001f600\udcff")
    odd = replace(INPUTS, skeleton=replace(INPUTS.skeleton, classes=3), class_names=names)
    folder = with_weights(tmp_path / "odd", odd, seeds=1)
    assert module(folder, tmp_path).CLASSES == names
    picture = tmp_path / names[0] / "one.png"
    picture.parent.mkdir()
    Image.new("RGB", (8, 8)).save(picture)
    capsys.readouterr()
    assert {c["class"] for c in predicted(capsys, folder, tmp_path)[0]["classes"]} == set(names)  # type: ignore[attr-defined]
    assert predict.main([str(folder), str(tmp_path), "--csv", str(tmp_path / "found.csv")]) == 0
    assert b"/b\xfc/one.png,b\xfc,," in (tmp_path / "found.csv").read_bytes()


def test_a_name_that_is_no_text_is_shown_all_the_same() -> None:
    assert common.table(["class", "%"], [["b\udcfc", 98.5]]) == "class       %\nb\\udcfc  98.5"


def test_what_is_no_network(tmp_path: Path, images: list[Path]) -> None:
    demand.package("onnxruntime")
    (tmp_path / "bad.onnx").write_text("no")
    (tmp_path / "cell.toml").write_text(POOLING.text())
    written("onnx", tmp_path / "cell.toml", tmp_path / "untrained.onnx")
    for name, expected in {
        "nothing": "expected a retraining in",
        300 * "n": "expected a folder that can be looked into",
        "nothing.onnx": "expected the file",
        "bad.onnx": "expected an ONNX file",
        "untrained.onnx": "expected the ONNX file of a retraining",
    }.items():
        with pytest.raises(Error) as ended:
            predict.main([str(tmp_path / name), str(images[0])])
            assert expected in str(ended.value)


def test_damaged_weights_classify_nothing_and_are_not_handed_on(tmp_path: Path, images: list[Path]) -> None:
    folder = with_weights(tmp_path / "large", INPUTS, seeds=1)
    weights = record_file.weights_path(folder, 0)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:700] + bytes([whole[700] ^ 64]) + whole[701:])
    for command in (
        lambda: predict.main([str(folder), str(images[0])]),
        lambda: export.main(["weights", str(folder), "-o", str(tmp_path / "copy.pt")]),
    ):
        with pytest.raises(Error) as ended:
            command()
            assert f"{weights} is damaged: its checksum does not fit its " in str(ended.value)
    assert not (tmp_path / "copy.pt").exists()
    torch.save(torch.load(io.BytesIO(whole), weights_only=True), weights)  # as an earlier version has it
    assert predict.main([str(folder), str(images[0])]) == 0

"""Tasks: official layouts in miniature, damaged files, samples, augmentations, and networks that can be traced."""

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from msat.errors import MissingData, UserError
from msat.task import Data, Task
from msat.tracing import trace
from msat.training import train
from tasks import images, reviews, waveforms
from tasks.cifar10 import Cifar10
from tasks.cifar100 import Cifar100
from tasks.digits import HandwrittenDigits
from tasks.imagenet import ImageNet
from tasks.imdb import Imdb
from tasks.models.bilstm import PAD, BiLSTM
from tasks.models.resnet import he_resnet20, paper_resnet20
from tasks.models.vgg import VGG, VGG16
from tasks.speech import Speech
from tasks.synsets import SYNSETS

TASKS = [HandwrittenDigits(), Cifar10(), Cifar100(), ImageNet(), Imdb(), Speech()]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSAT_CACHE", str(tmp_path / "cache"))


def picture(file: Path, shade: int, size: tuple[int, int] = (32, 32)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(file)


def cifar_pictures(root: Path, test: str = "test", suffix: str = "png") -> Path:
    for split, count in (("train", 3), (test, 2)):
        for number, name in enumerate(("cat", "dog")):
            for index in range(count):
                picture(root / "cifar10" / split / name / f"{index}.{suffix}", 40 * number + index)
    return root


@pytest.fixture
def cifar_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write CIFAR-10's official pickles with two images each, and tell torchvision their checksums."""
    folder = tmp_path / "data" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    for number, name in enumerate(names):
        content = {"data": np.full((2, 3072), number, np.uint8), "labels": [number, 9 - number]}
        (folder / name).write_bytes(pickle.dumps(content))
    meta = folder / CIFAR10.meta["filename"]
    meta.write_bytes(pickle.dumps({"label_names": [f"class {number}" for number in range(10)]}))
    sums = [[name, calculate_md5(str(folder / name))] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": calculate_md5(str(meta))})
    return tmp_path / "data"


def speech_tree(root: Path) -> Path:
    """Write two words: two training, one validation and one testing recording each, all of half a second."""
    base = root / "SpeechCommands" / "speech_commands_v0.02"
    wave = (8000 * np.sin(np.arange(8000) / 20)).astype(np.int16)
    for word in ("yes", "no", "_background_noise_"):
        (base / word).mkdir(parents=True)
        for index in range(4):
            soundfile.write(base / word / f"{index}_nohash_0.wav", wave, 16_000)
    (base / "validation_list.txt").write_text("yes/2_nohash_0.wav\nno/2_nohash_0.wav\n")
    (base / "testing_list.txt").write_text("yes/3_nohash_0.wav\nno/3_nohash_0.wav\n")
    return root


def review_tree(root: Path) -> Path:
    for split in ("train", "test"):
        for kind, text in (("pos", "A great film , great ."), ("neg", "An awful film .")):
            folder = root / "aclImdb" / split / kind
            folder.mkdir(parents=True)
            (folder / "0_1.txt").write_text(text if split == "train" else f"{text} Unseen .")
    return root


class TestCifar:
    def test_official_batches(self, cifar_batches: Path) -> None:
        data = Cifar10().load("full", cifar_batches)
        assert (len(data.train), len(data.test)) == (10, 2)
        assert data.train.take(torch.tensor([2])).unique().tolist() == [1]
        assert data.train.take(torch.tensor([0, 3])).shape == (2, 3, 32, 32)
        assert data.train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
        assert data.provenance.summary == "CIFAR-10, 10 + 2 images"
        assert data.provenance.remarks == ()

    def test_damaged_batch_is_named(self, cifar_batches: Path) -> None:
        file = cifar_batches / CIFAR10.base_folder / "data_batch_3"
        file.write_bytes(file.read_bytes()[:-5])
        with pytest.raises(MissingData, match=r"data_batch_3 is absent or damaged; unpack"):
            Cifar10().load("full", cifar_batches)

    @pytest.mark.parametrize("test", ["test", "val"])
    def test_class_folders(self, tmp_path: Path, test: str) -> None:
        data = Cifar10().load("full", cifar_pictures(tmp_path, test))
        assert data.classes == ("cat", "dog")
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert data.test.labels.tolist() == [0, 0, 1, 1]
        assert data.train.take(torch.tensor([4])).unique().tolist() == [41]
        assert data.provenance.kind == "real"
        assert data.provenance.remarks == ("2 of 10 classes",)

    def test_jpeg_is_remarked(self, tmp_path: Path) -> None:
        data = Cifar10().load("full", cifar_pictures(tmp_path, suffix="jpg"))
        assert data.provenance.remarks == ("JPEG re-encoded", "2 of 10 classes")

    def test_second_reading_decodes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = Cifar10().load("full", cifar_pictures(tmp_path))
        monkeypatch.setattr("tasks.folders.read_image", None)
        second = Cifar10().load("full", tmp_path)
        assert first.fingerprint() == second.fingerprint()

    def test_damaged_cache_is_made_anew(self, tmp_path: Path) -> None:
        first = Cifar10().load("full", cifar_pictures(tmp_path))
        for file in (tmp_path / "cache" / "data").iterdir():
            file.write_bytes(b"broken")
        assert Cifar10().load("full", tmp_path).fingerprint() == first.fingerprint()

    def test_damaged_picture_is_named(self, tmp_path: Path) -> None:
        file = cifar_pictures(tmp_path) / "cifar10" / "train" / "cat" / "1.png"
        file.write_bytes(b"no picture")
        with pytest.raises(MissingData, match=r"1\.png is not a readable picture"):
            Cifar10().load("full", tmp_path)

    def test_picture_of_another_size_is_named(self, tmp_path: Path) -> None:
        picture(cifar_pictures(tmp_path) / "cifar10" / "test" / "dog" / "9.png", 0, (30, 32))
        with pytest.raises(MissingData, match=r"9\.png is 30×32, not 32×32"):
            Cifar10().load("full", tmp_path)

    def test_class_in_one_split_only_is_refused(self, tmp_path: Path) -> None:
        picture(cifar_pictures(tmp_path) / "cifar10" / "test" / "horse" / "0.png", 0)
        with pytest.raises(MissingData, match=r"differ in classes \(horse\)"):
            Cifar10().load("full", tmp_path)

    @pytest.mark.parametrize("task", [Cifar10(), Cifar100()], ids=["cifar10", "cifar100"])
    def test_absence_says_what_to_put_where(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
        monkeypatch.setattr(CIFAR10, "download", unreachable)
        with pytest.raises(MissingData, match=rf"put the unpacked .* or pictures as {task.name}/train/<class>/"):
            task.load("full", tmp_path)


def unreachable(*_: Any, **__: Any) -> None:
    raise URLError("no network")


class TestSpeech:
    def test_official_tree(self, tmp_path: Path) -> None:
        data = Speech().load("full", speech_tree(tmp_path))
        assert data.classes == ("no", "yes")
        assert data.train.labels.tolist() == [0, 0, 1, 1]
        assert data.test.labels.tolist() == [0, 1]
        assert data.provenance.remarks == ("2 of 35 words",)
        wave = data.test.take(torch.tensor([0]))
        assert (wave.shape, wave.dtype) == ((1, 1, 8000), torch.int16)
        assert wave[0, 0, :3900].abs().max() > 7000
        assert wave[0, 0, 4100:].abs().max() == 0, "half a second is filled with silence"

    def test_damaged_recording_is_named(self, tmp_path: Path) -> None:
        base = speech_tree(tmp_path) / "SpeechCommands" / "speech_commands_v0.02"
        (base / "no" / "0_nohash_0.wav").write_bytes(b"RIFF")
        with pytest.raises(MissingData, match=r"no/0_nohash_0\.wav is absent or not a readable recording"):
            Speech().load("full", tmp_path)

    def test_missing_list_is_named(self, tmp_path: Path) -> None:
        base = speech_tree(tmp_path) / "SpeechCommands" / "speech_commands_v0.02"
        (base / "testing_list.txt").unlink()
        with pytest.raises(MissingData, match=r"lacks validation_list\.txt or testing_list\.txt"):
            Speech().load("full", tmp_path)

    def test_absence_says_what_to_put_where(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(waveforms, "SPEECHCOMMANDS", unreachable)
        with pytest.raises(MissingData, match=r"speech_commands_v0\.02\.tar\.gz .* testing_list\.txt"):
            Speech().load("full", tmp_path)

    def test_prepared_waveforms_are_equally_loud(self) -> None:
        loud = torch.randint(-9000, 9000, (2, 1, 500), generator=torch.Generator().manual_seed(0)).to(torch.int16)
        quiet = loud // 10
        assert torch.allclose(Speech().prepare(loud), Speech().prepare(quiet), atol=0.01)
        assert Speech().prepare(torch.zeros(1, 1, 5, dtype=torch.int16)).abs().max() == 0

    @pytest.mark.parametrize("name", waveforms.AUGMENTATIONS)
    def test_augmentations_keep_the_stored_form(self, name: str) -> None:
        waves = torch.randint(-9000, 9000, (3, 1, 400), dtype=torch.int16)
        first, again = (Speech().augment(waves, [name], torch.Generator().manual_seed(1)) for _ in range(2))
        assert (first.shape, first.dtype) == (waves.shape, torch.int16)
        assert torch.equal(first, again)
        assert not torch.equal(first, waves)


class TestImdb:
    def test_official_tree(self, tmp_path: Path) -> None:
        data = Imdb().load("full", review_tree(tmp_path))
        assert data.classes == ("neg", "pos")
        assert data.test.labels.tolist() == [0, 1]
        assert data.extras == {"vocabulary": 2 + 7}, "<unk>, <pad>, and a an awful film great , ."
        ids = data.test.take(torch.tensor([0]))[0]
        assert (ids.shape, ids.dtype) == ((reviews.LENGTH,), torch.int64)
        assert ids[:-6].unique().tolist() == [PAD], "an awful film . unseen . is padded on the left"
        assert ids[-2] == 0, "a word that train does not hold is <unk>"
        assert PAD not in ids[-6:]

    def test_missing_half_is_named(self, tmp_path: Path) -> None:
        (review_tree(tmp_path) / "aclImdb" / "test" / "neg" / "0_1.txt").unlink()
        with pytest.raises(MissingData, match=r"test/neg holds no \*\.txt reviews"):
            Imdb().load("full", tmp_path)

    def test_damaged_text_is_named(self, tmp_path: Path) -> None:
        (review_tree(tmp_path) / "aclImdb" / "train" / "neg" / "0_1.txt").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(MissingData, match=r"neg/0_1\.txt is not readable text"):
            Imdb().load("full", tmp_path)

    def test_absence_says_what_to_put_where(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("datasets.load_dataset", unreachable)
        with pytest.raises(MissingData, match=r"aclImdb/\{train,test\}/\{pos,neg\}/\*\.txt"):
            Imdb().load("full", tmp_path)

    def test_reader_ignores_the_rest_of_the_batch(self) -> None:
        network = BiLSTM(20, 2, embedding=4, hidden=4, layers=2, head=4).eval()
        tokens = torch.full((3, 8), PAD)
        tokens[:, 5:] = torch.randint(2, 20, (3, 3))
        assert torch.allclose(network(tokens)[:1], network(tokens[:1]), atol=1e-6)


class TestImageNet:
    @pytest.fixture
    def pictures(self, tmp_path: Path) -> Path:
        for index, number in enumerate((0, 7, 7, 999, 999)):
            picture(tmp_path / "imagenet" / "val" / SYNSETS[number] / f"{index}.JPEG", 50 * index, (320, 260))
        return tmp_path

    def test_validation_alone_is_divided(self, pictures: Path) -> None:
        data = ImageNet().load("full", pictures)
        assert (len(data.train), len(data.test), len(data.classes)) == (1, 4, 1000)
        assert sorted([*data.train.labels.tolist(), *data.test.labels.tolist()]) == [0, 7, 7, 999, 999]
        assert data.provenance.remarks == (
            "3 of 1,000 classes",
            "calibrated on 1 validation pictures that are not tested on",
        )
        taken = data.test.take(torch.tensor([1, 0]))
        assert (taken.shape, taken.dtype) == ((2, 3, 224, 224), torch.uint8)

    def test_train_folder_is_for_calibration(self, pictures: Path) -> None:
        picture(pictures / "imagenet" / "train" / SYNSETS[3] / "a.JPEG", 9, (224, 300))
        data = ImageNet().load("full", pictures)
        assert (len(data.train), len(data.test)) == (1, 5)
        assert data.calibration(10).take(torch.tensor([0])).unique().tolist() == [9]

    def test_foreign_class_is_named(self, pictures: Path) -> None:
        picture(pictures / "imagenet" / "val" / "kittens" / "a.JPEG", 9)
        with pytest.raises(MissingData, match="kittens is not named after an ImageNet class"):
            ImageNet().load("full", pictures)

    def test_absence_says_what_to_put_where(self, tmp_path: Path) -> None:
        with pytest.raises(MissingData, match=r"put validation pictures at .*imagenet/val/<wnid>/"):
            ImageNet().load("full", tmp_path)

    def test_absent_and_damaged_weights(self, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.hub.get_dir", lambda: str(pictures))
        task = ImageNet()
        spec = task.models("full")["resnet34"]
        assert spec.weights is not None
        with pytest.raises(MissingData, match=r"pretrained weights resnet34-b627a593\.pth are absent; put https"):
            spec.weights(nn.Identity(), pictures)
        (pictures / "imagenet" / "resnet34-b627a593.pth").write_bytes(b"junk")
        with pytest.raises(MissingData, match=r"resnet34-b627a593\.pth is damaged or of another network"):
            spec.weights(nn.Identity(), pictures)


class TestImages:
    pictures = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("name", images.AUGMENTATIONS)
    def test_augmentations_keep_the_stored_form(self, name: str) -> None:
        state = torch.get_rng_state()
        first, again = (
            images.augment_images(self.pictures, [name], torch.Generator().manual_seed(1)) for _ in range(2)
        )
        assert (first.shape, first.dtype) == (self.pictures.shape, torch.uint8)
        assert torch.equal(first, again)
        assert not torch.equal(first, self.pictures)
        assert torch.equal(state, torch.get_rng_state())

    def test_crop_shifts_each_picture_as_a_whole(self) -> None:
        count = torch.arange(1, 145, dtype=torch.uint8).view(1, 1, 12, 12).repeat(20, 1, 1, 1)
        for cropped in images.crop(count, torch.Generator().manual_seed(0)):
            inside = cropped[cropped > 0].long()
            rows, columns = (cropped[0] > 0).nonzero().unbind(1)
            assert (inside - 12 * rows - columns).unique().numel() == 1

    def test_cutout_blanks_at_most_half_the_side(self) -> None:
        changed = (images.cutout(self.pictures * 0, torch.Generator().manual_seed(0)) > 0).flatten(1).sum(1)
        assert 0 < changed.max() <= 3 * 6 * 6

    def test_unknown_augmentation_gets_suggestions(self) -> None:
        with pytest.raises(UserError, match="unknown augmentation 'flop': did you mean flip"):
            Cifar10().augment(self.pictures, ["flop"], torch.Generator())
        with pytest.raises(UserError, match="unknown augmentation 'shif': did you mean shift"):
            Speech().augment(torch.zeros(1, 1, 10, dtype=torch.int16), ["shif"], torch.Generator())

    def test_normalise(self) -> None:
        pixel = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
        assert images.normalise(pixel, (0.5, 0.5, 0.2), (0.5, 0.25, 1.0)).flatten().tolist() == [-1.0, 2.0, 0.0]


class TestModels:
    @pytest.mark.parametrize(
        ("network", "sites"),
        [(VGG(VGG16, 512, 7), 13), (paper_resnet20(7), 19), (he_resnet20(7), 19)],
        ids=["vgg16", "resnet20", "resnet20-he"],
    )
    def test_full_networks(self, network: nn.Module, sites: int) -> None:
        image = torch.randn(1, 3, 32, 32)
        traced = trace(network, image)
        assert len(traced.sites) == sites
        assert traced(image).shape == (1, 7)

    @every_task
    def test_sample_networks_are_traced_exactly(self, task: Task) -> None:
        data = task.load("sample", None)
        inputs = task.prepare(data.test.take(torch.arange(5)))
        for spec in task.models("sample").values():
            network = spec.build(data).eval()
            assert torch.allclose(trace(network, inputs)(inputs), network(inputs), atol=1e-4)

    def test_he_resnet20_has_its_published_size(self) -> None:
        assert sum(weight.numel() for weight in he_resnet20(10).parameters()) == 269_722


class TestSamples:
    @every_task
    def test_same_every_time_and_apart_from_real_data(self, task: Task, tmp_path: Path) -> None:
        data = task.load("sample", tmp_path / "nowhere")
        assert data.fingerprint() == type(task)().load("sample", None).fingerprint()
        assert data.provenance.kind == "sample"
        assert not rows(data.train.take(torch.arange(len(data.train)))) & rows(
            data.test.take(torch.arange(len(data.test)))
        )
        assert data.train.labels.max() < len(data.classes)

    @every_task
    def test_published_rows_name_full_models(self, task: Task) -> None:
        assert {row.model for row in task.published} <= set(task.models("full"))

    def test_digits_train_in_seconds(self, tmp_path: Path) -> None:
        task = HandwrittenDigits()
        data: Data = task.load("sample", None)
        _, info = train(task, "mlp", task.models("sample")["mlp"], data, folder=tmp_path)
        assert info.accuracy is not None
        assert info.accuracy > 0.97


def rows(examples: Tensor) -> set[bytes]:
    return {example.numpy().tobytes() for example in examples}

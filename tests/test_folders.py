"""Folders of images: pixels as they are, labels as the sub-folders are, and damage told."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refusals import message, refused
from vaelab import checks, data
from vaelab.data import conversion, folders, pictures
from vaelab.records import Dataset

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "faces"


def noise(*shape: int, dtype: str = "u1") -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def both(path: Path, **options: object) -> np.ndarray:
    """Images of both parts, those of the training data first."""
    return np.concatenate([part.x for part in data.load(path, **options)])


def ordered(images: np.ndarray) -> np.ndarray:
    return images[np.lexsort(images.reshape(len(images), -1).T)]


# Labels


def test_sub_folders_are_labels(folder: Path) -> None:
    marks = {}
    for k in range(60):
        label = ("cat", "dog", "ant")[k % 3]
        deep = "deeper/still" if k % 2 else "."
        save(folder / label / deep / f"{k}.png", np.full((4, 3), k, np.uint8))
        marks[k] = label
    train, test = data.load(folder, test_fraction=0.2)
    assert (len(train), len(test), train.shape) == (48, 12, (1, 4, 3))
    seen = set()
    for part in (train, test):
        assert part.class_names == ("ant", "cat", "dog")
        for x, y in zip(part.x, part.y, strict=True):
            assert part.class_names[y] == marks[int(x[0, 0, 0])]
            seen.add(int(x[0, 0, 0]))
    assert seen == set(range(60))


def test_sub_folders_that_are_numbers_are_in_the_order_of_numbers(folder: Path) -> None:
    for k in (9, 10, 11):
        save(folder / str(k) / "a.png", np.full((2, 2), k, np.uint8))
    train, _ = data.load(folder)
    assert train.class_names == ("9", "10", "11")
    assert train.y.tolist() == (train.x[:, 0, 0, 0] - 9).tolist()


@pytest.mark.parametrize("test_name", ["test", "val"])
@pytest.mark.parametrize("classes", [("a", "b"), (".", ".")])
def test_train_and_test_are_told_apart(
    test_name: str, classes: tuple[str, str], folder: Path
) -> None:
    for k in range(20):
        part = "train" if k < 14 else test_name
        save(folder / part / classes[k % 2] / f"{k}.png", np.full((2, 2), k, np.uint8))
    train, test = data.load(folder)
    assert sorted(train.x[:, 0, 0, 0]) == list(range(14))
    assert sorted(test.x[:, 0, 0, 0]) == list(range(14, 20))
    if classes == (".", "."):
        assert (train.y, test.y, train.class_names) == (None, None, ())
    else:
        for part in (train, test):
            assert np.array_equal(part.y, part.x[:, 0, 0, 0] % 2)
            assert part.class_names == ("a", "b")


def test_other_parts_are_told_and_other_names_are_classes(folder: Path) -> None:
    for k, part in enumerate(("train", "test", "val", "train", "test")):
        save(folder / part / f"{k}.png", np.full((2, 2), k, np.uint8))
    with pytest.warns(
        checks.VaelabWarning, match="faces: not used are its sub-folders val"
    ) as told:
        train, test = data.load(folder)
    assert told[0].filename == __file__
    assert sorted([*train.x[:, 0, 0, 0], *test.x[:, 0, 0, 0]]) == [0, 1, 3, 4]
    save(folder / "bus" / "9.png", np.full((2, 2), 9, np.uint8))
    assert data.load(folder)[0].class_names == ("bus", "test", "train", "val")


def test_a_flat_folder_and_a_single_sub_folder_have_no_labels(folder: Path) -> None:
    for k in range(4):
        save(folder / "all" / f"{k}.png", np.full((2, 2), k, np.uint8))
    for path in (folder, folder / "all"):
        train, test = data.load(path)
        assert (len(train), len(test), train.y, train.class_names) == (3, 1, None, ())


def test_what_is_not_clear_is_refused(folder: Path) -> None:
    save(folder / "a" / "1.png", noise(2, 2))
    save(folder / "2.png", noise(2, 2))
    advice = "put all images into sub-folders, one a class, or none."
    refused(folder, f": holds 2.png beside sub-folders with images; {advice}")
    (folder / "2.png").unlink()
    save(folder / "train" / "2.png", noise(2, 2))
    shutil.rmtree(folder / "a")
    save(folder / "test" / "a" / "2.png", noise(2, 2))
    refused(
        folder,
        ": of train and test, one has sub-folders and the other has none; both must have the same "
        "classes, or none.",
    )
    save(folder / "test" / "3.png", noise(2, 2))
    refused(folder, f"/test: holds 3.png beside sub-folders with images; {advice}")
    save(folder / "4.png", noise(2, 2))
    refused(folder, f": holds 4.png beside sub-folders with images; {advice}")


# Pixels

GREY, COLOUR = noise(5, 5), noise(5, 5, 3)
ALPHA = noise(5, 5, 4)
DEEP = noise(5, 5, dtype="u2")
SHOWN = ((ALPHA[..., :3].astype(float) * ALPHA[..., 3:]) / 255).round()
PALETTE = Image.fromarray(COLOUR).quantize(7)
SEEN = np.zeros((5, 5, 3)) + np.array([200, 100, 50])
SEEN[0] = 0


def transparent() -> Image.Image:
    """A palette of which one colour, that of the first row, is transparent."""
    image = Image.new("P", (5, 5), 1)
    image.putpalette([255, 255, 255, 200, 100, 50])
    image.paste(0, (0, 0, 5, 1))
    image.info["transparency"] = 0
    return image


KINDS = {
    "grey.png": (GREY, GREY, 0),
    "grey.bmp": (GREY, GREY, 0),
    "grey.tiff": (GREY, GREY, 0),
    "grey.jpg": (np.full((5, 5), 77, np.uint8), np.full((5, 5), 77), 1),
    "grey.PNG": (GREY, GREY, 0),
    "colour.png": (COLOUR, COLOUR, 0),
    "colour.tif": (COLOUR, COLOUR, 0),
    "colour.bmp": (COLOUR, COLOUR, 0),
    "colour.webp": (COLOUR, COLOUR, 0),
    "colour.jpeg": (np.full((5, 5, 3), 77, np.uint8), np.full((5, 5, 3), 77), 1),
    "alpha.png": (ALPHA, SHOWN, 1),
    "alpha.webp": (ALPHA, SHOWN, 1),
    "grey_alpha.png": (ALPHA[..., ::3], (ALPHA[..., 0] * (ALPHA[..., 3] / 255)).round(), 1),
    "deep.png": (DEEP, DEEP >> 8, 0),
    "deep.tiff": (DEEP, DEEP >> 8, 0),
    "bits.png": (GREY > 99, (GREY > 99) * 255, 0),
    "palette.png": (PALETTE, np.asarray(PALETTE.convert("RGB")), 0),
    "transparent.png": (transparent(), SEEN, 0),
    "cmyk.tiff": (Image.fromarray(COLOUR).convert("CMYK"), COLOUR, 1),
}


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_as_they_are_seen(name: str, folder: Path) -> None:
    given, wanted, most = KINDS[name]
    for k in range(2):
        save(folder / f"{k}{name}", given, **({"lossless": True} if "webp" in name else {}))
    images = both(folder)
    if wanted.ndim == 3:
        wanted = np.moveaxis(wanted, 2, 0)
    assert images.dtype == np.uint8
    assert images.shape == (2, *np.atleast_3d(wanted.T).T.shape)
    assert np.abs(images.astype(float) - wanted).max() <= most


@pytest.mark.parametrize("form", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(orientation: int, form: str, folder: Path) -> None:
    """What a camera held otherwise has written is turned back; a ramp survives JPEG."""
    shown = (np.add.outer(20 * np.arange(8), 5 * np.arange(12))).astype(np.uint8)
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: np.rot90(shown, 1),
        7: shown[::-1, ::-1].T,
        8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "webp" else {}
    for k in range(2):
        save(folder / f"{k}.{form}", np.ascontiguousarray(stored), exif=exif, **options)
    images = both(folder)
    assert images.shape[2:] == shown.shape
    assert np.abs(images.astype(int) - shown).max() <= 3


def test_one_colour_image_makes_all_rgb_and_that_is_told(folder: Path) -> None:
    save(folder / "a.png", GREY)
    save(folder / "b.png", GREY[::-1])
    save(folder / "c.png", COLOUR)
    with pytest.warns(checks.VaelabWarning, match="2 of 3 images are grey; all are read as RGB"):
        images = both(folder)
    grey = np.repeat(GREY[None], 3, 0)
    wanted = np.stack([grey, grey[:, ::-1], np.moveaxis(COLOUR, 2, 0)])
    assert np.array_equal(ordered(images), ordered(wanted))


# Sizes


def test_without_a_size_images_become_squares_of_the_usual_side(folder: Path) -> None:
    for k, shape in enumerate([(10, 20), (30, 12), (14, 40)]):
        save(folder / f"{k}.png", noise(*shape))
    told = r"3 sizes, from 10 × 20 to 30 × 12 pixels; all are brought to 12 × 12 \(fit='crop'\)"
    for _ in range(2):
        with pytest.warns(checks.VaelabWarning, match=told) as found:
            assert data.load(folder)[0].shape == (1, 12, 12)
        assert len(found) == 1
    for k in range(3):
        save(folder / f"{k}.png", noise(100 + k, 200))
    with pytest.warns(checks.VaelabWarning, match="brought to 64 × 64"):
        assert data.load(folder)[0].shape == (1, 64, 64)
    assert data.load(folder, size=(7, 5))[0].shape == (1, 7, 5)
    assert data.load(folder, size=9)[0].shape == (1, 9, 9)


def test_images_of_one_size_are_not_touched(folder: Path) -> None:
    images = noise(5, 70, 80)
    for k, image in enumerate(images):
        save(folder / f"{k}.png", image)
    assert np.array_equal(ordered(both(folder)), ordered(images[:, None]))
    assert np.array_equal(ordered(both(folder, size=(70, 80))), ordered(images[:, None]))


@pytest.mark.parametrize("turned", [False, True])
def test_crop_pad_and_stretch_do_what_they_say(turned: bool, folder: Path) -> None:
    """A bar of three colours: the middle alone, all of it with black beside, all of it squeezed."""
    bar = np.repeat(np.array([60, 120, 180], np.uint8), 20)[None].repeat(20, 0)
    bar = bar.T if turned else bar
    for k in range(2):
        save(folder / f"{k}.png", bar)
    shown = {fit: both(folder, size=12, fit=fit)[0, 0].T for fit in pictures.FITS}
    if not turned:
        shown = {fit: image.T for fit, image in shown.items()}
    middle = {fit: image[6].astype(int) for fit, image in shown.items()}
    assert np.abs(middle["crop"] - 120).max() <= 8
    for fit in ("pad", "stretch"):
        assert np.abs(middle[fit][[1, 6, 10]] - [60, 120, 180]).max() <= 8
    assert (shown["pad"][[0, 1, 2, 3, 8, 9, 10, 11]] == 0).all()
    assert (shown["pad"][4:8] > 0).all()
    assert (np.abs(shown["stretch"].astype(int) - middle["stretch"]) <= 2).all()
    assert (np.abs(shown["crop"].astype(int) - 120) <= 8).all()


def test_an_image_far_longer_than_wide_is_padded_too(folder: Path) -> None:
    for k in range(2):
        save(folder / f"{k}.png", np.full((1, 3000), 200, np.uint8))
    images = both(folder, size=8, fit="pad")
    assert (images[:, 0, 3:4] == 200).all()
    assert images.sum() == 2 * 8 * 200


def test_a_large_photograph_is_decoded_smaller_but_alike(folder: Path) -> None:
    rows, columns = np.mgrid[:600, :800]
    photo = np.stack([rows * 255 // 600, columns * 255 // 800, rows * 0 + 90], 2).astype(np.uint8)
    for k in range(2):
        save(folder / "jpg" / f"{k}.jpg", photo, quality=95)
        save(folder / "png" / f"{k}.png", photo)
    ours, exact = (both(folder / form, size=32).astype(int) for form in ("jpg", "png"))
    assert np.abs(ours - exact).max() <= 6


# What cannot be read


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and has but a few pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    return content


def fill(folder: Path, count: int) -> None:
    for k in range(count):
        save(folder / f"{k:03d}.png", np.full((4, 4), k, np.uint8))


def test_a_few_unreadable_files_are_passed_over_and_told(folder: Path) -> None:
    fill(folder, 98)
    whole = save(folder / "cut.png", noise(4, 4)).read_bytes()
    (folder / "cut.png").write_bytes(whole[:50])
    (folder / "empty.jpg").write_bytes(b"")
    line = (
        f"{folder}: 2 of 100 image files cannot be read (cut.png: image file is truncated; "
        "empty.jpg: is no image of a kind that is read)"
    )
    for _ in range(2):  # the second time from the cache
        with pytest.warns(checks.VaelabWarning) as told:
            images = both(folder, unreadable=0.02)
        assert [str(warning.message) for warning in told] == [f"{line}; they are passed over."]
        assert sorted(images[:, 0, 0, 0]) == list(range(98))
        refused(
            folder,
            line.removeprefix(str(folder)) + ", but at most a share of 0.01 may be passed over; "
            "mend or remove them, or set unreadable to a larger share.",
        )


def test_what_pillow_does_not_dare_is_unreadable(folder: Path) -> None:
    fill(folder, 2)
    (folder / "bomb.png").write_bytes(bomb(30_000, 30_000))
    (folder / "claim.png").write_bytes(bomb(10_000, 9_500))  # of which Pillow would only warn
    (folder / "link.png").symlink_to(folder / "nowhere")
    save(folder / "real.tiff", np.zeros((4, 4), np.float32))
    save(folder / "long.tiff", np.full((4, 4), 2**20, np.int32))
    (folder / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    with pytest.warns(checks.VaelabWarning) as told:
        assert len(both(folder, unreadable=1, size=4)) == 2
    assert "6 of 8 image files cannot be read" in str(told[0].message)
    assert "bomb.png: Image size (900000000 pixels) exceeds limit" in str(told[0].message)
    outcomes = pictures.decode([str(p) for p in sorted(folder.iterdir())], 1, (4, 4), "crop")
    assert outcomes.reasons[3].startswith("Image size (95000000 pixels) exceeds limit of")
    assert outcomes.reasons[4] == "No such file or directory"
    assert outcomes.reasons[5:] == [
        "holds more than 16 bits",
        "holds real numbers, not 8 or 16 bits",
        "is no image of a kind that is read",
    ]


def test_an_image_without_pixels_to_read_is_left_out_of_the_sizes(folder: Path) -> None:
    fill(folder, 3)
    (folder / "huge.png").write_bytes(bomb(10**6, 10**6))
    with pytest.warns(checks.VaelabWarning) as told:
        assert data.load(folder, unreadable=0.5)[0].shape == (1, 4, 4)
    assert len(told) == 1


def test_damaged_exif_is_no_damage_to_the_image(folder: Path) -> None:
    for k in range(2):
        save(
            folder / f"{k}.jpg",
            np.full((4, 6), 50, np.uint8),
            exif=b"Exif\0\0MM\0*\xff\xff\xff\xff",
        )
    assert np.abs(both(folder).astype(int) - 50).max() <= 1


def test_folders_without_enough_images_are_refused(folder: Path) -> None:
    folder.mkdir()
    kinds = "(.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp)"
    refused(folder, f": holds no image {kinds}, but 0 other files.")
    (folder / "notes.txt").write_text("1")
    (folder / ".hidden.png").write_text("1")
    os.mkfifo(folder / "pipe.png")
    refused(folder, f": holds no image {kinds}, but 3 other files.")
    (folder / "a.png").write_text("no image")
    refused(
        folder,
        ": none of its 1 image files can be read; a.png: is no image of a kind that is read.",
        unreadable=1,
    )
    fill(folder, 1)
    (folder / "a.png").unlink()
    refused(folder, ": holds 1 data, but at least 2 are needed: one to train on, one to test on.")
    save(folder / "train" / "1.png", noise(2, 2))
    (folder / "000.png").unlink()
    (folder / "test").mkdir()
    (folder / "test" / "1.png").write_text("no image")
    with pytest.raises(
        checks.DataError, match="1 training and 0 test data, but at least 1 of each"
    ):
        data.load(folder, unreadable=1)


def test_the_same_image_many_times_is_many_data(folder: Path) -> None:
    for k in range(10):
        save(folder / f"{k}.png", GREY)
    train, test = data.load(folder)
    assert (len(train), len(test)) == (9, 1)
    assert (train.x == GREY).all()


def test_links_are_followed_once_and_hidden_files_are_not_seen(
    folder: Path, tmp_path: Path
) -> None:
    for label in ("a", "b"):
        fill(folder / label, 3)
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "b" / "self").symlink_to(folder / "b" / "self")
    (folder / "b" / "self.png.d").symlink_to(folder / "b")
    fill(tmp_path / "elsewhere", 5)
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    fill(folder / ".trash", 4)
    fill(folder / "a" / ".thumbs", 4)
    train, test = data.load(folder)
    assert np.bincount(np.concatenate([train.y, test.y])).tolist() == [3, 3, 5]


def test_names_that_are_no_text_can_be_read_and_told(folder: Path) -> None:
    fill(folder / "a", 3)
    odd = os.fsdecode(b"\xff\xfe")
    try:
        (folder / odd).mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    fill(folder / odd, 3)
    (folder / odd / f"{odd}\n.png").write_text("damaged")
    with pytest.warns(checks.VaelabWarning) as told:
        train, test = data.load(folder, unreadable=0.5)
    assert str(told[0].message).isprintable()
    assert len(train) + len(test) == 6
    assert train.class_names == ("a", "\ufffd\ufffd")
    "".join(train.class_names).encode()
    (folder / odd / f"{odd}\n.png").unlink()
    data.load(folder / odd)[0].name.encode()


# The cache


def test_a_folder_is_converted_once_and_again_when_it_changes(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 10)
    first = data.load(folder)
    assert sorted(p.name for p in next(cache.glob("[!.]*")).iterdir()) == [
        "images.npy",
        "meta.json",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(folders, "convert", lambda *_, **__: pytest.fail("converted again"))
        again = data.load(folder)
        assert [part.fingerprint for part in again] == [part.fingerprint for part in first]
        assert len(data.load(folder, test_fraction=0.5)[1]) == 5
    os.utime(folder / "003.png", ns=(0, 0))
    for change in (
        lambda: save(folder / "003.png", np.full((4, 4), 200, np.uint8)),
        lambda: (folder / "004.png").rename(folder / "sub.png"),
        lambda: (folder / "005.png").unlink(),
        lambda: save(folder / "new.png", np.full((4, 4), 201, np.uint8)),
        lambda: folder.rename(folder.with_name("moved")),
    ):
        before = len(list(cache.glob("[!.]*")))
        change()
        where = folder if folder.exists() else folder.with_name("moved")
        data.load(where)
        assert len(list(cache.glob("[!.]*"))) == before + 1
    assert sorted(both(where)[:, 0, 0, 0]) == [0, 1, 2, 4, 6, 7, 8, 9, 200, 201]


def test_two_folders_never_share_a_cache(tmp_path: Path) -> None:
    for name, level in (("one", 1), ("two", 2)):
        for k in range(2):
            path = save(tmp_path / name / f"{k}.bmp", np.full((4, 4), level, np.uint8))
            os.utime(path, ns=(0, 0))
    assert (both(tmp_path / "one") == 1).all()
    assert (both(tmp_path / "two") == 2).all()


def test_an_image_of_as_many_bytes_is_another_one(folder: Path) -> None:
    paths = [save(folder / f"{k}.bmp", np.full((4, 4), 1, np.uint8)) for k in range(2)]
    os.utime(paths[0], ns=(0, 0))
    assert sorted(both(folder)[:, 0, 0, 0]) == [1, 1]
    save(paths[0], np.full((4, 4), 2, np.uint8))
    assert sorted(both(folder)[:, 0, 0, 0]) == [1, 2]


def test_reading_changes_nothing_in_the_cache(folder: Path, cache: Path) -> None:
    fill(folder, 20)
    data.load(folder)
    images = next(cache.glob("*/images.npy"))
    before = images.read_bytes()
    data.load(folder, test_fraction=0.5, seed=3)
    assert images.read_bytes() == before


DAMAGE = {
    "cut": lambda folder: os.truncate(folder / "images.npy", 150),
    "empty": lambda folder: (folder / "meta.json").write_text(""),
    "other": lambda folder: (folder / "meta.json").write_text("[1]"),
    "gone": lambda folder: (folder / "meta.json").unlink(),
    "fewer": lambda folder: np.save(folder / "images.npy", np.zeros((3, 1, 4, 4), np.uint8)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_made_again(kind: str, folder: Path, cache: Path) -> None:
    fill(folder, 10)
    first = data.load(folder)[0].fingerprint
    DAMAGE[kind](next(cache.glob("[!.]*")))
    assert data.load(folder)[0].fingerprint == first
    assert len(list(cache.glob("[!.]*"))) == 1


def test_an_interruption_leaves_nothing_half_written(folder: Path, cache: Path) -> None:
    fill(folder, 10)

    def interrupt(what: str, done: int, total: int | None) -> None:
        if what == "images":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.load(folder, progress=interrupt)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    data.load(folder)
    made = next(cache.glob("[!.]*"))
    shutil.copytree(made, cache / f".{made.name}.0a.part")  # of a process that was killed
    shutil.rmtree(made)
    assert len(data.load(folder)[0]) == 9
    assert [path for path in cache.iterdir() if path.is_dir()] == [made]


def test_the_cache_gets_its_name_in_one_step(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 4)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(
            checks.DataError, match=r"cannot be written \(No space left on device\)"
        ):
            data.load(folder)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert len(data.load(folder)[0]) == 3


def test_a_cache_that_cannot_be_written_is_told(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 4)
    cache.parent.write_text("a file, not a folder")
    with pytest.raises(checks.DataError, match="set VAELAB_CACHE to a folder that can") as error:
        data.load(folder)
    message(error)
    cache.parent.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(99, 36, 63))
    refused(
        folder,
        ": its data take 64 bytes, but the cache has room for 63 only; set a smaller size, or "
        "VAELAB_CACHE to a folder with more room.",
    )


def test_several_processes_give_the_same_and_progress_is_told(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(40):
        save(folder / str(k % 2) / f"{k}.png", noise(6 + k % 3, 6))
    (folder / "0" / "bad.png").write_text("damaged")
    alone = _quiet(folder)
    shutil.rmtree(cache)
    monkeypatch.setattr(conversion, "FILES", 20)
    monkeypatch.setattr(conversion, "PIECE_FILES", 7)
    monkeypatch.setattr("loky.cpu_count", lambda: 2)
    events: list[tuple[str, int, int]] = []
    together = _quiet(folder, progress=lambda *event: events.append(event))
    for one, other in zip(alone, together, strict=True):
        assert one.fingerprint == other.fingerprint
    total = sum(path.stat().st_size for path in folder.rglob("*.png"))
    for what in ("headers", "images"):
        told = [event for event in events if event[0] == what]
        assert len(told) == 6
        assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
        assert told[-1] == (what, total, total)


def test_a_process_that_the_system_ends_is_told(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 4)
    monkeypatch.setattr(conversion, "FILES", 2)
    monkeypatch.setattr("loky.cpu_count", lambda: 2)
    monkeypatch.setattr(pictures, "look", lambda _: os._exit(9))
    refused(
        folder,
        ": the system ended a process that read images, most likely for lack of memory; remove "
        "very large images, or free memory.",
    )
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def _quiet(folder: Path, **options: object) -> tuple[Dataset, Dataset]:
    with pytest.warns(checks.VaelabWarning):
        return data.load(folder, unreadable=0.5, **options)


def test_loading_at_once_converts_once(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 30)
    calls = []

    def counted(*args: object, **options: object) -> conversion.Converted:
        calls.append(1)
        return conversion.convert(*args, **options)

    monkeypatch.setattr(folders, "convert", counted)
    with ThreadPoolExecutor(4) as pool:
        prints = [parts[0].fingerprint for parts in pool.map(data.load, [folder] * 4)]
    assert len(set(prints)) == len(calls) == 1

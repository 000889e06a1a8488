"""Files of data sets: found, checked, downloaded, resumed; never half written and never silently wrong."""

import gzip
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from dbp.data import DataError
from dbp.data.download import download
from dbp.data.idx import read_idx
from dbp.data.mnist import IdxImages, Official

BODY = bytes(range(256)) * 2000
DIGEST = sha256(BODY).hexdigest()
CHUNK = 1 << 16  # what a broken connection may lose


def idx(values: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + values.numpy().tobytes()


def images(rows: int) -> torch.Tensor:
    return (torch.arange(rows * 28 * 28) % 251).to(torch.uint8).view(rows, 28, 28)


def labels(rows: int) -> torch.Tensor:
    return (torch.arange(rows) % 10).to(torch.uint8)


CONTENTS = {
    f"{part}-{kind}-ubyte": idx(values)
    for part, rows in (("train", 30), ("t10k", 12))
    for kind, values in (("images-idx3", images(rows)), ("labels-idx1", labels(rows)))
}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}


class Tiny(IdxImages):
    """A set in MNIST's format, small enough for a test."""

    folder = "tiny"
    mirrors = ()
    files: ClassVar = {
        name: Official(sha256(PACKED[name]).hexdigest(), sha256(content).hexdigest())
        for name, content in CONTENTS.items()
    }


class Mirror(ThreadingHTTPServer):
    """Serves `bodies` from the address it is asked at; `faults` maps a folder to what goes wrong there."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.bodies, self.faults, self.asked = bodies, dict[str, Any](), list[tuple[str, str]]()

    def folder(self, name: str, fault: str | int | bytes | None = None) -> str:
        self.faults[name] = fault
        return f"http://127.0.0.1:{self.server_port}/{name}/"


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        _, folder, name = self.path.split("/")
        asked = self.headers.get("Range", "")
        self.server.asked.append((folder, asked))
        fault = self.server.faults[folder]
        if isinstance(fault, int):
            return self.send_error(fault)
        body = fault if isinstance(fault, bytes) else self.server.bodies[name]
        start = 0 if fault == "no ranges" else int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start or fault != "no ranges" else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + len(body) // 3 if fault == "breaks" else None])


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Mirror({"file.bin": BODY, **{f"{name}.gz": body for name, body in PACKED.items()}}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def resumed_at(mirror: Mirror) -> int:
    return int(mirror.asked[-1][1].removeprefix("bytes=").removesuffix("-"))


def left(folder: Path) -> set[str]:
    """What is in a folder, but for the lock."""
    return {path.name for path in folder.iterdir()} - {".download.lock"}


def test_a_file_is_downloaded_once(tmp_path, mirror):
    path = tmp_path / "new" / "file.bin"
    for _ in range(2):
        download(path, [mirror.folder("good")], DIGEST)
    assert path.read_bytes() == BODY
    assert len(mirror.asked) == 1
    assert left(path.parent) == {"file.bin"}


@pytest.mark.parametrize("fault", [404, 500, b"another file", b""], ids=str)
def test_the_next_mirror_helps(tmp_path, mirror, fault):
    path = tmp_path / "file.bin"
    download(path, [mirror.folder("bad", fault), mirror.folder("good")], DIGEST)
    assert path.read_bytes() == BODY
    assert mirror.asked == [("bad", "bytes=0-"), ("good", "bytes=0-")]
    assert left(tmp_path) == {"file.bin"}


def test_a_broken_download_goes_on_at_the_next_mirror(tmp_path, mirror):
    path = tmp_path / "file.bin"
    download(path, [mirror.folder("one", "breaks"), mirror.folder("good")], DIGEST)
    assert path.read_bytes() == BODY
    assert [folder for folder, _ in mirror.asked] == ["one", "good"]
    assert CHUNK <= resumed_at(mirror) <= len(BODY) // 3


def test_a_broken_download_goes_on_at_the_next_call(tmp_path, mirror):
    path = tmp_path / "file.bin"
    for _ in range(2):
        with pytest.raises(DataError, match="no answer"):
            download(path, [mirror.folder("one", "breaks")], DIGEST)
        assert left(tmp_path) == {".file.bin.part"}
    download(path, [mirror.folder("good")], DIGEST)
    assert path.read_bytes() == BODY
    assert CHUNK + len(BODY) // 3 <= resumed_at(mirror) <= 2 * (len(BODY) // 3)


@pytest.mark.parametrize("fault", [None, "no ranges"])
@pytest.mark.parametrize(
    ("part", "right"), [(BODY[:5], True), (BODY, True), (b"wrong", False), (BODY + b"more", False)]
)
def test_what_a_killed_process_left_is_used_only_if_it_is_right(tmp_path, mirror, fault, part, right):
    path, url = tmp_path / "file.bin", mirror.folder("good", fault)
    (tmp_path / ".file.bin.part").write_bytes(part)
    if not right and fault is None:
        with pytest.raises(DataError, match="wrong SHA-256"):
            download(path, [url], DIGEST)
        assert left(tmp_path) == set()
    download(path, [url], DIGEST)
    assert path.read_bytes() == BODY
    assert left(tmp_path) == {"file.bin"}


def test_a_failure_names_file_mirrors_and_what_to_do(tmp_path, mirror):
    urls = [mirror.folder("a", 503), mirror.folder("b", b"another"), "http://127.0.0.1:1/"]
    with pytest.raises(DataError) as caught:
        download(tmp_path / "tiny" / "file.bin", urls, DIGEST)
    message = str(caught.value)
    assert all(url in message for url in urls)
    assert all(part in message for part in ("file.bin", "HTTP 503", "wrong SHA-256", "ConnectionError"))
    assert f"put the file into {tmp_path / 'tiny'}, or give data.root=FOLDER" in message
    assert message.count("\n") < 3
    assert left(tmp_path / "tiny") == set()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="cannot be written"):
        download(tmp_path / "file" / "x.bin", [], DIGEST)


def test_many_may_download_at_once(tmp_path, mirror):
    path, url = tmp_path / "file.bin", mirror.folder("good")
    threads = [threading.Thread(target=download, args=(path, [url], DIGEST)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == BODY
    assert len(mirror.asked) == 1


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (0, 5)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_is_read_back(tmp_path, shape, suffix):
    values = torch.randint(0, 256, shape, dtype=torch.uint8)
    path = tmp_path / f"values{suffix}"
    path.write_bytes(gzip.compress(idx(values)) if suffix else idx(values))
    read = read_idx(path, sha256(idx(values)).hexdigest())
    assert read.shape == shape
    assert read.equal(values)


GOOD = idx(images(2))
DAMAGED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("short", GOOD[:-5], "expected 1,584 bytes of content, found 1,579"),
        ("long", GOOD + b"12", "expected 1,584 bytes of content, found 1,586"),
        ("header", GOOD[:7], "expected .* found 7"),
        ("empty", b"", "not in IDX format: .* found nothing"),
        ("magic", b"\0\0\x0d" + GOOD[3:], "not in IDX format: .* found 00 00 0d"),
        ("text", b"<html>", "not in IDX format: .* found 3c 68 74"),
        ("other", GOOD[:-1] + b"\xff", "expected SHA-256 .*, found"),
        ("truncated.gz", DAMAGED[:-30], r"expected 1,584 bytes of content, found 1?,?\d+"),
        ("beheaded.gz", DAMAGED[20:], "incorrect header check"),
        ("flipped.gz", DAMAGED[:-6] + b"\0\0" + DAMAGED[-4:], "incorrect data check"),
        ("empty.gz", b"", "not in IDX format"),
    ],
)
def test_damaged_files_are_errors(tmp_path, name, body, message):
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, sha256(GOOD).hexdigest())
    assert str(path) in str(caught.value)
    assert "delete the file" in str(caught.value)
    assert path.read_bytes() == body


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


@pytest.mark.parametrize("folder", ["", "tiny"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_are_found_where_users_put_them(tmp_path, folder, suffix):
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in CONTENTS:
        body = PACKED[name] if suffix else CONTENTS[name]
        (tmp_path / folder / f"{name}{suffix}").write_bytes(body)
    data = Tiny(root=str(tmp_path), batch_size=12)
    data.prepare_data()
    data.setup()
    seen, classes = next(iter(data.test_dataloader()))
    torch.testing.assert_close(seen, images(12) / 255)
    assert (seen.dtype, classes.dtype) == (torch.float32, torch.int64)
    assert classes.equal(labels(12).long())


def test_images_are_downloaded_where_they_are_missing(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(Tiny, "mirrors", (mirror.folder("good"),))
    Tiny(root=str(tmp_path)).prepare_data()
    assert left(tmp_path / "tiny") == {f"{name}.gz" for name in CONTENTS}
    asked = len(mirror.asked)
    assert asked == 4
    Tiny(root=str(tmp_path)).setup()
    assert len(mirror.asked) == asked


def test_a_corrupt_file_is_neither_used_nor_replaced(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(Tiny, "mirrors", (mirror.folder("good"),))
    Tiny(root=str(tmp_path)).prepare_data()
    path = tmp_path / "tiny" / "train-labels-idx1-ubyte.gz"
    other = gzip.compress(idx(labels(30) + 1))
    path.write_bytes(other)
    data = Tiny(root=str(tmp_path))
    data.prepare_data()
    with pytest.raises(DataError, match="SHA-256") as caught:
        data.setup()
    assert str(path) in str(caught.value)
    assert path.read_bytes() == other
    path.unlink()
    Tiny(root=str(tmp_path)).setup()
    assert path.read_bytes() == PACKED["train-labels-idx1-ubyte"]


@pytest.mark.parametrize(("val_size", "sizes"), [(0, [30, 12, 12]), (10, [20, 10, 12])])
def test_the_last_training_images_validate(tmp_path, val_size, sizes):
    for name, body in PACKED.items():
        (tmp_path / f"{name}.gz").write_bytes(body)
    data = Tiny(root=str(tmp_path), val_size=val_size, batch_size=30)
    batches = [next(iter(data.test_dataloader())), next(iter(data.val_dataloader()))]
    batches.append(next(iter(data.train_dataloader())))
    assert [len(images) for images, _ in reversed(batches)] == sizes
    expected = images(30)[20:] if val_size else images(12)
    torch.testing.assert_close(batches[1][0], expected / 255)


@pytest.mark.parametrize("val_size", [-1, 30])
def test_val_size_must_leave_something_to_train_on(tmp_path, val_size):
    for name, body in PACKED.items():
        (tmp_path / f"{name}.gz").write_bytes(body)
    with pytest.raises(DataError, match="from 0 to 29"):
        Tiny(root=str(tmp_path), val_size=val_size).setup()

"""Downloads: checksums, resumption after a broken connection, atomic writes."""

import os
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from dbp.files.lock import locked
from dbp.errors import DataError

LIMIT = 1 << 30  # bytes of a file; a server could send without end


def download(path: Path, mirrors: Sequence[str], digest: str, timeout: float = 20.0) -> None:
    """Downloads `mirror + path.name` to `path` from the first mirror that has it; an existing file is kept.

    After a broken connection, the part received stays in `.NAME.part`, and the next mirror or the next call resumes it.
    Several processes on one file system may call this at once: one downloads, the others wait.

    Args:
        path: the file to write; its folder is created.
        mirrors: URLs of folders, with the final slash.
        digest: the file's SHA-256.
        timeout: seconds that a server may be silent.

    Raises:
        DataError: no mirror gave the file with this digest, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent, wait=True, name=".download.lock"):
            if not path.exists():
                _from_any(path, mirrors, digest, timeout)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def _from_any(path: Path, mirrors: Sequence[str], digest: str, timeout: float) -> None:
    fetch = _Resumed(path.with_name(f".{path.name}.part"), timeout)
    failures = []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + path.name, f"sha256:{digest}", path.name, path.parent, downloader=fetch)
            return
        except requests.RequestException as error:
            answer = "no answer" if error.response is None else f"HTTP {error.response.status_code}"
            failures.append(f"{mirror} ({answer}: {type(error).__name__})")
        except ValueError:
            failures.append(f"{mirror} (wrong SHA-256)")
    raise DataError(
        f"{path.name} could not be downloaded from {', '.join(failures)}\n"
        f"  put the file into {path.parent}, or give data.root=FOLDER if you have it elsewhere"
    )


class _Resumed:
    """A downloader for pooch that resumes from the file `part`; pooch's own downloaders start at the first byte."""

    def __init__(self, part: Path, timeout: float) -> None:
        self.part, self.timeout = part, timeout

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        held = self.part.stat().st_size if self.part.exists() else 0
        # Compression by the server would make ranges meaningless.
        headers = {"Range": f"bytes={held}-", "Accept-Encoding": "identity"}
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            complete = held and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            if not complete:
                response.raise_for_status()
                self._append(response, held if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0)
        os.replace(self.part, output_file)

    def _append(self, response: requests.Response, held: int) -> None:
        total = held + int(response.headers.get("Content-Length", 0))
        name = self.part.name.removeprefix(".").removesuffix(".part")
        with (
            open(self.part, "ab" if held else "wb") as file,
            # `disable=None`: no bar unless the output is a terminal.
            tqdm(total=total, initial=held, desc=name, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(1 << 16):
                bar.update(file.write(chunk))
                if file.tell() > LIMIT:
                    self.part.unlink()
                    raise ValueError("not the file that was asked for")

"""Who may pass an agent."""

import hashlib
from pathlib import Path

import pytest

from retinue.agent import credentials
from retinue.agent.credentials import CredentialFile

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "RECHECK_SECONDS", 0.0)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_only_listed_tokens_pass(tmp_path: Path) -> None:
    path = tmp_path / "sha256"
    path.write_text(f"{digest('one')}\n\n{digest('two').upper()}\n")
    file = CredentialFile(str(path))
    assert file.accepts(b"Bearer one")
    assert file.accepts(b"bearer two")
    for wrong in (
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer three",
        b"Basic one",
        b"one",
        b"Bearer \xff\xfe",
        b"Bearer one two",
    ):
        assert not file.accepts(wrong)


def test_the_hash_itself_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "sha256"
    path.write_text(digest("one"))
    assert not CredentialFile(str(path)).accepts(b"Bearer " + digest("one").encode())


def test_without_a_file_nobody_passes_until_it_appears(tmp_path: Path) -> None:
    path = tmp_path / "sha256"
    file = CredentialFile(str(path))
    assert not file.accepts(b"Bearer one")
    path.write_text(digest("one"))
    assert file.accepts(b"Bearer one")
    path.unlink()
    assert not file.accepts(b"Bearer one")


def test_lines_that_are_no_hash_let_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "sha256"
    path.write_text(f"one\n{'z' * 64}\n{digest('one')[:63]}\n")
    assert not CredentialFile(str(path)).accepts(b"Bearer one")
    path.write_bytes(b"\xff\xfe" * 64)
    assert not CredentialFile(str(path)).accepts(b"Bearer one")


def test_a_rotation_by_switching_a_link_is_seen(tmp_path: Path) -> None:
    """The way in which a mounted Secret changes: a link to another folder is put in place in one step."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sha256").write_text(digest(name))
    (tmp_path / "data").symlink_to("old")
    file = CredentialFile(str(tmp_path / "data" / "sha256"))
    assert file.accepts(b"Bearer old")
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(tmp_path / "data")
    assert file.accepts(b"Bearer new")
    assert not file.accepts(b"Bearer old")

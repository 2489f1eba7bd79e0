"""Frames and what is inside them: everything ours survives the pipe, everything else is refused."""

import ast
import base64
import io
import pathlib
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import langchain_ssd.worker
from langchain_ssd.errors import ProtocolError
from langchain_ssd.worker import protocol
from langchain_ssd.worker.protocol import (
    TO_PARENT,
    TO_WORKER,
    FrameTooLarge,
    FrameWriter,
    TruncatedFrame,
    encode,
    read_frame,
)

MARKER = "xyzzy-secret"
# Opcodes that run "1/0" in whoever unpickles them.
PICKLED = base64.b64decode("gARjYnVpbHRpbnMKZXhlYwqMAzEvMIVSLg==")


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


class Dribble(io.RawIOBase):
    """A source that gives one byte at a time, and counts what was asked for at most."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)
        self.asked = 0

    def read(self, size: int = -1) -> bytes:
        self.asked = max(self.asked, size)
        return self.data.read(1)


class Sip:
    """A sink that takes a few bytes at a time."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: memoryview) -> int:
        self.data += bytes(data[:7])
        return min(7, len(data))


# --- frames -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2**53), st.text())))
def test_frames_survive_a_dribbling_pipe(calls):
    frames = [{"type": "token_ids", "id": number, "text": text} for number, text in calls]
    source = Dribble(b"".join(map(encode, frames)))
    assert [read_frame(source, TO_WORKER) for _ in frames] == frames
    assert read_frame(source, TO_WORKER) is None


def test_a_lone_surrogate_and_nul_survive_and_the_wire_stays_ascii():
    frame = {"type": "token_ids", "id": 1, "text": "a\ud83d \x00 é 漢"}
    assert encode(frame).isascii()
    assert read_frame(io.BytesIO(encode(frame)), TO_WORKER) == frame


@pytest.mark.parametrize("cut", range(1, len(encode({"type": "cancel", "id": 7}))))
def test_a_frame_cut_anywhere_is_an_error(cut):
    with pytest.raises(TruncatedFrame):
        read_frame(io.BytesIO(encode({"type": "cancel", "id": 7})[:cut]), TO_WORKER)


@pytest.mark.parametrize("length", [protocol.FRAME_LIMIT + 1, 2**32 - 1])
def test_an_oversized_length_is_refused_before_its_body_is_read(length):
    source = Dribble(struct.pack(">I", length) + b"x" * 100)
    with pytest.raises(ProtocolError, match="larger than the limit"):
        read_frame(source, TO_WORKER)
    assert source.data.tell() == 4


def test_an_announced_length_allocates_nothing_until_the_bytes_come():
    source = Dribble(struct.pack(">I", protocol.FRAME_LIMIT))
    with pytest.raises(TruncatedFrame):
        read_frame(source, TO_WORKER)
    assert source.asked <= 1024 * 1024


def test_a_frame_above_the_limit_is_not_sent(monkeypatch):
    monkeypatch.setattr(protocol, "FRAME_LIMIT", 100)
    with pytest.raises(FrameTooLarge):
        encode({"type": "token_ids", "id": 1, "text": "x" * 100})


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": b"bytes"}, {("k",): 1}, "deep"])
def test_what_is_not_json_is_not_sent(value):
    if value == "deep":
        value = []
        for _ in range(100_000):
            value = [value]
    with pytest.raises(ProtocolError, match="plain JSON"):
        encode({"type": "hello", "x": value})


@pytest.mark.parametrize(
    "body",
    [
        PICKLED,
        b"",
        b"\xff\xfe",
        b"{",
        b'{"type":"cancel","id":1}{}',
        b"null",
        b'[{"type":"cancel","id":1}]',
        b"{}",
        b'{"type":null}',
        b'{"type":["cancel"],"id":1}',
        b'{"type":"nonsense"}',
        b'{"type":"beat","steps":1,"busy":true,"running":0,"queued":0}',  # the other direction's
        b'{"type":"cancel"}',
        b'{"type":"cancel","id":1,"more":2}',
        b'{"type":"cancel","id":"1"}',
        b'{"type":"cancel","id":true}',
        b'{"type":"cancel","id":1.5}',
        b'{"type":"submit","id":1,"age":"x","request":{}}',
        b"[" * 100_000,
        b'{"type":"cancel","id":' + b"9" * 5000 + b"}",
        '{"type":"cancel","id":1}'.encode("utf-16"),
    ],
)
def test_hostile_bodies_are_refused(body):
    with pytest.raises(ProtocolError) as caught:
        read_frame(io.BytesIO(framed(body)), TO_WORKER)
    assert caught.value.__cause__ is None


def test_an_error_quotes_nothing_of_the_frame():
    for body in (f'{{"type":"{MARKER}"}}', f'{{"type":"cancel","{MARKER}":1}}', MARKER):
        with pytest.raises(ProtocolError) as caught:
            read_frame(io.BytesIO(framed(body.encode())), TO_WORKER)
        assert MARKER not in str(caught.value)


def test_a_whole_number_will_do_for_a_fraction_and_a_bool_for_nothing_else():
    good = {"type": "progress", "stage": "target", "fraction": 1}
    assert read_frame(io.BytesIO(encode(good)), TO_PARENT) == good
    with pytest.raises(ProtocolError, match="wrong fields"):
        read_frame(io.BytesIO(encode({**good, "fraction": True})), TO_PARENT)


def test_a_writer_keeps_frames_whole_when_threads_and_short_writes_interleave():
    sink = Sip()
    writer = FrameWriter(sink)

    def write(number: int) -> None:
        for _ in range(20):
            writer.send({"type": "token_ids", "id": number, "text": "x" * number})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    source = io.BytesIO(sink.data)
    seen = []
    while (frame := read_frame(source, TO_WORKER)) is not None:
        assert len(frame["text"]) == frame["id"]
        seen.append(frame["id"])
    assert sorted(seen) == sorted(list(range(8)) * 20)


# --- source -------------------------------------------------------------------------------------------


def test_nothing_in_the_worker_room_can_execute_what_arrives():
    folder = pathlib.Path(langchain_ssd.worker.__file__).parent
    forbidden = {"pickle", "marshal", "shelve", "multiprocessing", "dill", "cloudpickle", "socket", "yaml"}
    files = list(folder.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, file.name
            assert not forbidden & {name.split(".")[0] for name in names}, file.name

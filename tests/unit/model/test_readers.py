"""Here live the promises about payloads from elsewhere: moved classes, older fields, attacks."""

import sys
import types
from typing import Any

import pytest

from continuum.errors import CodecError
from continuum.model.codec import (
    codec_for,
    decode,
    encode,
    same_payload,
)
from tests.support.payloads import Color, Item, Order, Payment


def test_a_moved_class_is_read_through_its_hint(monkeypatch):
    old = types.ModuleType("codec_old_home")
    exec(
        "from dataclasses import dataclass\n@dataclass\nclass Paid:\n    amount: int\n    currency: str = 'EUR'\n",
        old.__dict__,
    )
    monkeypatch.setitem(sys.modules, "codec_old_home", old)
    typed, tagged = codec_for(old.Paid).encode(old.Paid(3)), encode(old.Paid(3))
    monkeypatch.delitem(sys.modules, "codec_old_home")

    payment = codec_for(Payment)
    assert payment.decode(typed) == payment.decode(tagged) == Payment(3)
    assert codec_for(list[Payment]).decode(f"[{tagged}]") == [Payment(3)]
    with pytest.raises(CodecError, match="import module codec_old_home in the dispatcher"):
        decode(tagged)
    assert same_payload(tagged, payment.encode(Payment(3)))


def test_new_fields_take_their_default_and_removed_ones_are_ignored():
    name = f"{Payment.__module__}:Payment"
    assert decode(f'{{"$class":["{name}",{{"amount":1,"gone":2}}]}}') == Payment(1)
    with pytest.raises(CodecError, match="'amount'"):
        decode(f'{{"$class":["{name}",{{}}]}}')


def test_reading_never_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "codec_trap.py").write_text("raise SystemExit('imported')")
    for tag in ("$class", "$enum"):
        with pytest.raises(CodecError, match="import module codec_trap"):
            decode(f'{{"{tag}":["codec_trap:Trap",{{}}]}}')
    assert "codec_trap" not in sys.modules


def test_reading_runs_no_module_level_getattr(monkeypatch):
    module = types.ModuleType("codec_lazy")
    exec("def __getattr__(name):\n    raise SystemExit(name)", module.__dict__)
    monkeypatch.setitem(sys.modules, "codec_lazy", module)
    with pytest.raises(CodecError):
        decode('{"$class":["codec_lazy:Anything",{}]}')


@pytest.mark.parametrize(
    "payload",
    [
        '{"$class":["subprocess:Popen",{"args":["true"]}]}',
        '{"$class":["builtins:eval",{}]}',
        '{"$class":["os:system",{}]}',
        '{"$class":["builtins:dict",{}]}',
        f'{{"$class":["{Color.__module__}:Color",{{}}]}}',
        f'{{"$enum":["{Item.__module__}:Item","x"]}}',
        f'{{"$enum":["{Color.__module__}:Color","green"]}}',
        '{"$class":["",{}]}',
        '{"$class":[":",{}]}',
        '{"$class":5}',
        '{"$class":[1,2]}',
        '{"$decimal":"x"}',
        '{"$datetime":[1]}',
        '{"$set":[[1]]}',
        '{"$dict":5}',
        '{"$tomorrow":1}',
        '{"$wrapped":["zlib","eA=="]}',
        "{",
        "",
        "[" * 100_000,
        '{"$tuple":[' * 50_000 + "]}" * 50_000,  # how deep is too deep differs between releases of Python
        '"\\udc00"',
        "\udc00",
    ],
)
def test_unreadable_payloads_are_codec_errors(payload):
    for use in (decode, codec_for(Any).decode, codec_for(Order).decode):
        with pytest.raises(CodecError):
            use(payload)
    assert not same_payload(payload, "1")

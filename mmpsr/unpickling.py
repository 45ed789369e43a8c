"""Pickles from elsewhere, read without trust: nothing that they name is imported or called.

A pickle is a program. Here only the instructions that make plain data are carried out, the few names that plain data
needs are looked up in a table, and all others end the reading. What a pickle makes is also bounded by its size on
disk, and its dictionary keys are flat, so that it can exhaust neither the memory nor the stack.
"""

from __future__ import annotations

import math
import os
import pickle
import re
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmpsr.errors import UserError

__all__ = ["PickleError", "load_pickle"]

_Python: Any = pickle._Unpickler  # type: ignore[attr-defined]  # its instructions can be replaced


class PickleError(UserError):
    """A pickle that is not read; the message names the file and what it asks for."""


def load_pickle(path: str | Path, shown: str, arrays: bool = False) -> object:
    """Read a pickle of builtin containers, text, bytes and numbers, written by Python 2 or 3.

    Args:
        path: the file.
        shown: the file as messages name it.
        arrays: also admit numpy scalars and plain arrays (numbers, text, or objects that are plain data).

    Returns:
        What it holds. Strings of Python 2 are decoded as Latin-1, an ordered dictionary becomes a `dict`, a bytearray
        `bytes`.

    Raises:
        PickleError: the pickle asks for anything else (nothing of it is run), or it is damaged or cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(file, arrays).load()
    except _RefusedError as error:
        raise PickleError(
            f"{shown} {error}; such a file may hold nothing but containers, text{', arrays' if arrays else ''} and "
            "numbers. Nothing of it was run"
        ) from None
    except Exception as error:  # damaged pickles raise whatever they please
        raise PickleError(f"{shown} cannot be read as a pickle: {str(error)[:150] or type(error).__name__}") from None


class _RefusedError(Exception):
    """What the pickle does that plain data does not."""


class _Name:
    """Stands on the stack for a name that the pickle asked for, until it is called."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class _Dtype:
    """Stands for a numpy dtype, whose byte order is set after it was made."""

    def __init__(self, name: str) -> None:
        self.value = np.dtype(name)


class _Unpickler(_Python):  # type: ignore[misc]
    def __init__(self, file: BinaryIO, arrays: bool) -> None:
        super().__init__(file, encoding="latin1")
        size = os.fstat(file.fileno()).st_size
        self._file_read = lambda num_bytes: file.read(min(num_bytes, size))  # else a forged length is allocated
        self.left = 4 * size
        self.names: dict[tuple[str, str], Callable[..., Any]] = {
            ("_codecs", "encode"): self._encode,
            ("collections", "OrderedDict"): self._dict,
        }
        for module in ("builtins", "__builtin__"):
            self.names |= {(module, "bytes"): lambda: b"", (module, "complex"): complex}
            self.names |= {(module, "set"): self._set, (module, "frozenset"): self._frozenset}
        self.unfilled: dict[int, np.ndarray[Any, Any]] = {}
        if arrays:
            self.names |= {("numpy", "dtype"): _dtype, ("numpy", "ndarray"): _never}
            for core in ("numpy.core", "numpy._core"):
                self.names[f"{core}.multiarray", "_reconstruct"] = self._reconstruct
                self.names[f"{core}.multiarray", "scalar"] = self._scalar
                self.names[f"{core}.numeric", "_frombuffer"] = self._from_buffer

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise _RefusedError(f"asks for {ascii(f'{module}.{name}')[1:-1][:100]}")
        return _Name(self.names[module, name])

    def charge(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _RefusedError("makes more than it holds")

    def load_reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack[-1]
        if not isinstance(called, _Name) or type(arguments) is not tuple:
            raise _RefusedError(f"calls a {type(called).__name__}")
        self.stack[-1] = called.make(*arguments)

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, _Dtype) and not any(part is not None for part in state[2:5]):
            built.value = built.value.newbyteorder(state[1])
        elif id(built) in self.unfilled:
            _, shape, dtype, is_fortran, values = state
            kind = _numpy_dtype(dtype)
            built.__setstate__((1, shape, kind, bool(is_fortran), self._values(shape, kind, values)))
            del self.unfilled[id(built)]
        else:
            raise _RefusedError(f"alters a {type(built).__name__}")

    def load_inst(self) -> None:
        self.load_global()
        raise _RefusedError("makes an object of a class")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def load_setitems(self) -> None:
        self._fill(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise _RefusedError(f"adds to a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(_key, items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(map(_key, items)))

    def load_unicode(self) -> None:
        self.append(_joined(str(self.readline()[:-1], "raw-unicode-escape")))

    def load_bytearray8(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_other(self) -> None:
        raise _RefusedError("holds instructions that plain data does not need, or is not a pickle")

    def _load_text(self, width: int) -> None:
        text = self.read(int.from_bytes(self.read(width), "little"))
        self.append(_joined(str(text, "utf-8", "surrogatepass")))

    load_short_binunicode = partialmethod(_load_text, 1)
    load_binunicode = partialmethod(_load_text, 4)
    load_binunicode8 = partialmethod(_load_text, 8)

    def _fill(self, items: list[Any]) -> None:
        filled = self.stack[-1]
        if type(filled) is not dict:
            raise _RefusedError(f"sets items of a {type(filled).__name__}")
        filled.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise _RefusedError(f"holds bytes encoded as {encoding!a}")
        self.charge(len(text))
        return text.encode("latin1")

    def _dict(self, items: list[Any] | tuple[()] = ()) -> dict[Any, Any]:
        self.charge(len(items))
        return {_key(key): value for key, value in items}

    def _set(self, items: list[Any] | tuple[()] = ()) -> set[Any]:
        self.charge(len(items))
        return set(map(_key, items))

    def _frozenset(self, items: list[Any] | tuple[()] = ()) -> frozenset[Any]:
        return frozenset(self._set(items))

    def _reconstruct(self, kind: object, *_: object) -> np.ndarray[Any, Any]:
        if not (isinstance(kind, _Name) and kind.make is _never):
            raise _RefusedError("holds an array of another class than numpy.ndarray")
        array: np.ndarray[Any, Any] = np.ndarray((0,), np.int8)
        self.unfilled[id(array)] = array
        return array

    def _scalar(self, dtype: object, value: str | bytes) -> Any:
        kind = _numpy_dtype(dtype)
        return np.frombuffer(self._values((1,), kind, value), kind)[0]

    def _from_buffer(self, value: bytes, dtype: object, shape: tuple[int, ...], order: Any) -> np.ndarray[Any, Any]:
        kind = _numpy_dtype(dtype)
        return np.frombuffer(self._values(shape, kind, value), kind).reshape(shape, order=order).copy(order)

    def _values(self, shape: tuple[int, ...], dtype: np.dtype[Any], values: Any) -> Any:
        """Give the contents of an array, once they are known to fit it."""
        size = math.prod(shape)
        self.charge(size * dtype.itemsize)
        if dtype.hasobject:
            nested = any(isinstance(value, np.ndarray) and (value.dtype.hasobject or id(value) in self.unfilled)
                         for value in values)  # fmt: skip
            if type(values) is not list or len(values) != size or nested:
                raise _RefusedError("holds an array of objects that are not its own or arrays of objects themselves")
            return values
        contents = values.encode("latin1") if isinstance(values, str) else values
        if type(contents) is not bytes or len(contents) != size * dtype.itemsize:
            raise _RefusedError(f"holds an array of shape {shape} with other contents")
        if dtype.kind == "U":
            codes = np.frombuffer(contents, f"{dtype.str[0]}u4")
            if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
                raise _RefusedError("holds an array of text that is not Unicode")
        return contents


_PLAIN = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.NONE,
    pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG,
    pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING,
    pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.BINBYTES,
    pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1,
    pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT,
    pickle.DICT, pickle.SETITEM, pickle.SETITEMS, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.PUT,
    pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.GLOBAL,
    pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.INST,
)  # fmt: skip
"""Instructions that plain data needs; `BUILD`, `INST` and the names are looked at closely."""
_Unpickler.dispatch = {code: _Unpickler.load_other for code in range(256)} | {
    code[0]: getattr(_Unpickler, _Python.dispatch[code[0]].__name__) for code in _PLAIN
}


def _key(value: Any) -> Any:
    """Check that a value may be hashed: a nested tuple could take forever, or the stack."""
    for part in value if type(value) is tuple else (value,):
        if not (part is None or isinstance(part, (str, bytes, int, float, complex, np.number, np.bool_))):
            raise _RefusedError(f"has a key that is a {type(part).__name__}")
    return value


def _joined(text: str) -> str:
    """Join the halves of characters that narrow builds of Python 2 wrote apart."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")


def _never(*_: object) -> None:
    raise _RefusedError("makes an array by itself")


def _dtype(name: object, *_: object) -> _Dtype:
    if not (isinstance(name, str) and re.fullmatch(r"[biufc]\d+|[SU][1-9]\d*|O8?", name)):
        raise _RefusedError(f"holds an array of type {ascii(name)[:100]}; only numbers, text and objects may be")
    return _Dtype("O" if name == "O8" else name)


def _numpy_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise _RefusedError("holds an array without a type of numbers, text or objects")
    return dtype.value

"""Write TFRecord files of `tf.train.Example` without TensorFlow, knowing where in the file each value lies.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. Its checksum, CRC-32C, is
linear over GF(2): runs of bytes are summed side by side in NumPy, and the sums joined.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_RUN = 64  # bytes that are summed one after the other
HEADER = 12
"""Bytes of a record before what it holds."""


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`, as in RFC 3720, appendix B.4."""
    if len(data) < 4:
        return _short(data)
    padded = np.zeros(-(-len(data) // _RUN) * _RUN, np.uint8)  # zeros in front leave a sum that starts at 0 as it is
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 255  # which is to start at all ones
    words = np.ascontiguousarray(padded.view("<u4").reshape(-1, _RUN // 4).T).astype(np.uint32)
    sums = np.zeros(words.shape[1], np.uint32)
    for word in words:
        sums = _advance(sums ^ word, 2)
    power = _RUN.bit_length() - 1
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, np.uint32), sums])
        sums = _advance(sums[0::2], power) ^ sums[1::2]
        power += 1
    return int(sums[0]) ^ 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """`data` as one record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked(length), data, _masked(data)))


def example(features: Mapping[str, bytes | Sequence[int]]) -> tuple[bytes, dict[str, int]]:
    """A serialized `tf.train.Example`, and where in it the value of each feature of bytes begins.

    Args:
        features: Name to bytes (a `BytesList` of one) or to whole numbers ≥ 0 (an `Int64List`).
    """
    entries, ends = [], {}
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = _field(1, _field(1, value))
        else:
            feature = _field(3, _field(1, b"".join(_varint(number) for number in value)))
        entry = _field(1, _field(1, name.encode()) + _field(2, feature))
        entries.append(entry)
        ends[name] = sum(map(len, entries))  # the value is the last thing in its entry
    body = b"".join(entries)
    head = b"\x0a" + _varint(len(body))
    return head + body, {
        name: len(head) + ends[name] - len(value) for name, value in features.items() if isinstance(value, bytes)
    }


def _field(number: int, content: bytes) -> bytes:
    """A field of protocol buffers that has a length."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _short(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        crc = int(_advance(np.array([crc], np.uint32), 0)[0])
    return crc ^ 0xFFFFFFFF


def _advance(sums: np.ndarray, power: int) -> np.ndarray:
    """`sums`, uint32, after 2**power more bytes of zeros."""
    low, second, third, high = _tables(power)
    return low[sums & 255] ^ second[sums >> 8 & 255] ^ third[sums >> 16 & 255] ^ high[sums >> 24]


@cache
def _tables(power: int) -> np.ndarray:
    """`(4, 256)` uint32: what each value of each byte of a sum becomes."""
    values = np.arange(256, dtype=np.uint32)
    if power:
        return np.stack(
            [_advance(_advance(values << np.uint32(8 * place), power - 1), power - 1) for place in range(4)]
        )
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(_POLYNOMIAL), values >> 1)
    shifted = [np.arange(256, dtype=np.uint32) << np.uint32(8 * place - 8) for place in range(1, 4)]
    return np.stack([values, *shifted])

"""Makes v1.json, the known answers of version 1.

It shares no code with the package: the cryptography is that of pyca/cryptography.

    python3 v1.py > v1.json
"""

import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRETS = {  # published here, so the package refuses them
    "7f3a9c02": "eba575788d561772085853908678773bb48b53e31a81dd764cf58681d0273ca4",
    "11aa22bb": "7e7430535963136ec7cfe19f86b031b83f83a6ecffc203d525217b436d6b8f83",  # dropped
    "00000001": "dad637b49ecac7a2aede989e69543e1836938073d031942fe9e170f763e9c043",  # never listed
}
NOW = 946684800 // 3600  # 2000-01-01 00:00 UTC, when the tests begin
OLDEST = NOW - 400 * 24 - 1  # 400 days and an hour of skew
NEWEST = NOW + 1


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def header(v):
    return bytes([v["version"]]) + bytes.fromhex(v["key"]) + v["epoch"].to_bytes(4, "big")


def strings(v):
    return b"".join(varint(len(s.encode())) + s.encode() for s in (v["name"], v["audience"], v["purpose"]))


def subkey(secret, info, length=32):
    return HKDF(hashes.SHA256(), length, None, info).derive(secret)


def seal(v, key=None, bound=None):
    """The definition, in three lines; key and bound are for seals that went wrong."""
    context = header(v) + strings(v)
    key = key or subkey(bytes.fromhex(SECRETS[v["key"]]), b"roam/sealed\0" + context)
    bound = context + bytes.fromhex(v["aad"]) if bound is None else bound
    return header(v) + bytes.fromhex(v["nonce"]) + AESGCM(key).encrypt(
        bytes.fromhex(v["nonce"]), bytes.fromhex(v["plaintext"]), bound)


GOOD = {
    "version": 1, "key": "7f3a9c02", "epoch": NOW,
    "name": "__Host-roam-mark", "audience": "shop.example", "purpose": "mark",
    "aad": bytes(range(32)).hex(), "nonce": "cafebabefacedbaddecaf888",
    "plaintext": b"who is it, and since when".hex(),
}


STRINGS = ("name", "audience", "purpose", "aad")


def but(**changes):
    return GOOD | changes


def ask(v, sealed, why):
    """What the package is asked: to open sealed as v says, where it differs from "for"."""
    return {"why": why} | {k: v[k] for k in STRINGS if v[k] != GOOD[k]} | {"sealed": sealed.hex()}


opens = []
for why, v in {
    "a mark": GOOD,
    "an empty plaintext": but(plaintext="", nonce="000000000000000000000001"),
    "no associated data": but(aad="", nonce="000000000000000000000002"),
    "a nonce of zeros": but(nonce="00" * 12),
    "one block": but(plaintext="ab" * 16, nonce="000000000000000000000003"),
    "200 bytes": but(plaintext=(bytes(range(200))).hex(), nonce="000000000000000000000004"),
    "long strings, whose lengths take two bytes": but(name="n" * 128, audience="a" * 300, purpose="é" * 64, nonce="000000000000000000000005"),
    "empty strings": but(name="", audience="", purpose="", nonce="000000000000000000000006"),
    "the oldest epoch": but(epoch=OLDEST, nonce="000000000000000000000007"),
    "the newest epoch, by a server whose clock is ahead": but(epoch=NEWEST, nonce="000000000000000000000008"),
}.items():
    opens.append(ask(v, seal(v), why) | {"plaintext": v["plaintext"]})

good = seal(GOOD)
root = bytes.fromhex(SECRETS[GOOD["key"]])
context = header(GOOD) + strings(GOOD)
aad = bytes.fromhex(GOOD["aad"])


def flip(i, bit):
    return good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1:]


fails = []
for field, start, end in (("version", 0, 1), ("key id", 1, 5), ("epoch", 5, 9), ("nonce", 9, 21),
                          ("ciphertext", 21, len(good) - 16), ("tag", len(good) - 16, len(good))):
    for i in range(start, end):
        fails.append(ask(GOOD, flip(i, i % 8), f"{field}: bit {i % 8} of byte {i} flipped"))
for n in range(len(good)):
    fails.append(ask(GOOD, good[:n], f"truncated to {n} bytes"))
fails += [
    ask(GOOD, good[1:], "the first byte missing"),
    ask(GOOD, good + b"\0", "extended by a zero"),
    ask(GOOD, b"\0" + good, "a zero in front"),
    ask(GOOD, good + good, "twice"),
    ask(GOOD, good[:9] + good[9:21] + good[-16:], "the ciphertext taken out"),
    ask(but(name="__Host-roam"), good, "another name"),
    ask(but(name="__host-roam-mark"), good, "a name in other case"),
    ask(but(audience="shop.example staging"), good, "another audience"),
    ask(but(purpose="csrf"), good, "another purpose"),
    ask(but(name="mark", purpose="__Host-roam-mark"), good, "name and purpose exchanged"),
    ask(but(name="__Host-roam-marks", audience="hop.example"), good, "a character moved from audience to name"),
    ask(but(audience="shop.examplem", purpose="ark"), good, "a character moved from purpose to audience"),
    ask(but(purpose="mark\0"), good, "a longer purpose"),
    ask(but(purpose="mar", aad=b"k".hex() + GOOD["aad"]), good, "a character moved from purpose to the associated data"),
    ask(but(aad=""), good, "no associated data"),
    ask(but(aad=GOOD["aad"][:-2]), good, "shorter associated data"),
    ask(but(aad=GOOD["aad"] + "00"), good, "longer associated data"),
    ask(but(aad="01" + GOOD["aad"][2:]), good, "other associated data"),
    ask(GOOD, seal(but(epoch=NOW - 1))[:5] + good[5:9] + seal(but(epoch=NOW - 1))[9:], "sealed in another epoch than it says"),
    ask(GOOD, seal(but(epoch=OLDEST - 1)), "too old"),
    ask(GOOD, seal(but(epoch=0)), "of 1970"),
    ask(GOOD, seal(but(epoch=NEWEST + 1)), "of the future"),
    ask(GOOD, seal(but(epoch=2**32 - 1)), "of the farthest future"),
    ask(GOOD, seal(but(key="11aa22bb")), "sealed with a key that was dropped"),
    ask(GOOD, seal(but(key="00000001")), "sealed with a key that is not listed"),
    ask(GOOD, header(GOOD) + seal(but(key="00000001"))[9:], "sealed with another key than it says"),
    ask(GOOD, seal(but(version=0)), "version 0, sealed well"),
    ask(GOOD, seal(but(version=2)), "version 2, sealed well"),
    ask(GOOD, seal(GOOD, key=root), "sealed with the secret itself"),
    ask(GOOD, seal(GOOD, key=subkey(root, b"roam/sealed\0" + context, 16)), "AES-128"),
    ask(GOOD, seal(GOOD, key=subkey(root, b"roam/sealed\0" + header(GOOD))), "a subkey without name, audience and purpose"),
    ask(GOOD, seal(GOOD, key=subkey(root, context)), "a subkey without the label"),
    ask(GOOD, seal(GOOD, key=subkey(root, b"roam/sealed\0" + header(but(epoch=NOW - 1)) + strings(GOOD))), "a subkey of another epoch"),
    ask(GOOD, seal(GOOD, bound=b""), "nothing bound"),
    ask(GOOD, seal(GOOD, bound=aad), "only the caller's data bound"),
    ask(GOOD, seal(GOOD, bound=context), "the caller's data not bound"),
    ask(GOOD, seal(GOOD, bound=header(GOOD) + aad), "name, audience and purpose not bound"),
    ask(GOOD, seal(GOOD, bound=strings(GOOD) + aad), "version, key and epoch not bound"),
    ask(GOOD, seal(GOOD, bound=aad + context), "bound in another order"),
    ask(GOOD, good[:-16] + bytes(16), "a tag of zeros"),
    ask(GOOD, good[:-4], "a tag of 12 bytes"),
    ask(GOOD, header(GOOD) + bytes(28), "header and zeros"),
    ask(GOOD, bytes(len(good)), "zeros"),
]

print(json.dumps({
    "about": "made by v1.py",
    "keys": [{"id": "7f3a9c02", "secret": SECRETS["7f3a9c02"]},
             {"id": "11aa22bb", "secret": SECRETS["11aa22bb"], "dropped": True}],
    "for": {k: GOOD[k] for k in STRINGS},
    "opens": opens,
    "fails": fails,
}, indent=1))

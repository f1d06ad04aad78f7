#!/usr/bin/env python3
"""A client in two pages: docs/wire.md as a program. Needs Python 3 and `cryptography`.

    knock.py ACTION [PAYLOAD] < INVITE

Reads an invite in one line (siglatch1:...) from standard input. Sends one stamped knock that is bound
to the server, and prints the receipt.
"""

import base64
import hashlib
import hmac
import ipaddress
import os
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

STATUS = {1: "done", 2: "failed", 3: "running", 4: "busy", 5: "quota", 6: "denied"}


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(ikm, info, salt=None):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(ikm)


def plaintext(key, timestamp, user_id, action_id, challenge, payload, binding=b""):
    """The 245 bytes that are sealed, and their hmac. `binding`: nothing, or "SLB1", server id and address."""
    head = struct.pack("<BIHBI", 1, timestamp, user_id, action_id, challenge)
    tail = struct.pack("<H", len(payload)) + payload
    mac = hmac_sha256(key, hashlib.sha256(head + tail + binding).digest())
    return (head + mac + tail).ljust(245, b"\0"), mac


def binding_to(server_id, address=None):
    if address is None:
        return b"SLB1" + server_id + bytes(16)
    address = ipaddress.ip_address(address)
    if address.version == 4:
        return b"SLB1" + server_id + bytes(10) + b"\xff\xff" + address.packed
    return b"SLB1" + server_id + address.packed


def stamp(sealed, spki, key, user_id, timestamp):
    """The 32 bytes behind a sealed packet."""
    epoch = struct.pack(">Q", timestamp // 64)
    beacon_key = hkdf(spki, b"siglatch beacon 1")
    stamp_key = hkdf(key, b"siglatch stamp 1", salt=hashlib.sha256(spki).digest())
    beacon = hmac_sha256(beacon_key, epoch)[:8]
    hint = hmac_sha256(stamp_key, b"hint" + struct.pack(">H", user_id) + epoch)[:8]
    tag = hmac_sha256(stamp_key, b"tag" + sealed + beacon + hint)[:16]
    return beacon + hint + tag


def open_receipt(datagram, key, mac):
    """The receipt for the knock with this hmac; an exception for anything else."""
    if datagram[:4] != b"SLR1":
        raise ValueError("no receipt")
    cipher = ChaCha20Poly1305(hkdf(key, b"siglatch receipt 1", salt=mac))
    plain = cipher.decrypt(datagram[4:16], datagram[16:], b"SLR1")
    version, status = plain[0], plain[1]
    server_time, lease = struct.unpack(">II", plain[10:18])
    source, length = ipaddress.IPv6Address(plain[18:34]), struct.unpack(">H", plain[34:36])[0]
    if version != 1 or len(plain) != 36 + length:
        raise ValueError("a receipt of another version")
    return {
        "status": STATUS[status],
        "knock": plain[2:10].hex(),
        "server_time": server_time,
        "lease_seconds": lease,
        "source": str(source.ipv4_mapped or source),
        "text": plain[36:].decode(),
    }


def read_invite(line):
    """What an invite in one line holds."""
    text = "".join(line.split())
    if not text.startswith("siglatch1:"):
        raise ValueError("no invite")
    text = text[len("siglatch1:"):]
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    body, checksum = data[:-8], data[-8:]
    if hashlib.sha256(body).digest()[:8] != checksum:
        raise ValueError("the invite was cut or mistyped")
    at = 0

    def take(length):
        nonlocal at
        at += length
        if at > len(body):
            raise ValueError("the invite is too short")
        return body[at - length : at]

    def number(length):
        return int.from_bytes(take(length), "big")

    def name():
        return take(number(1)).decode()

    flags = number(1)
    if flags & ~31:
        raise ValueError("an invite of a later version")
    invite = {"name": name(), "host": name(), "addresses": [take(16) for _ in range(number(1))], "port": number(2)}
    invite.update(user=name(), user_id=number(2), key=take(32), spki=take(number(2)))
    invite["server_id"] = take(16) if flags & 1 else None
    if flags & 8:
        invite["exchange"] = {"k": take(32), "action": number(1), "once": number(1) == 1}
    invite["key_action"] = number(1) if flags & 16 else None
    invite["actions"] = {}
    for _ in range(number(1)):
        action, flags = number(1), number(1)
        invite["actions"][name()] = {"id": action, "door": bool(flags & 1), "totp": bool(flags & 2)}
    if at != len(body):
        raise ValueError("the invite is too long")
    return invite


def main(action, payload=""):
    invite = read_invite(sys.stdin.read())
    key, spki, user_id = invite["key"], invite["spki"], invite["user_id"]
    now, challenge = int(time.time()), int.from_bytes(os.urandom(4), "little")
    action_id, binding = invite["actions"][action]["id"], binding_to(invite["server_id"])
    plain, mac = plaintext(key, now, user_id, action_id, challenge, payload.encode(), binding)
    sealed = serialization.load_der_public_key(spki).encrypt(plain, padding.PKCS1v15())
    datagram = sealed + stamp(sealed, spki, key, user_id, now)
    family, kind, _, _, to = socket.getaddrinfo(invite["host"], invite["port"], type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as udp:
        udp.connect(to)
        udp.settimeout(1)
        # The same bytes again while there is no answer: the server does what they say once.
        for _ in range(3):
            udp.send(datagram)
            try:
                print(open_receipt(udp.recv(2048), key, mac))
                return 0
            except socket.timeout:
                continue
    print("no answer", file=sys.stderr)
    return 3


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))

#!/usr/bin/env python3
"""Verifies a siglatch audit trail: verify_audit.py KEY FILE... (files in their order, or one bundle; see audit.md)"""
import hashlib, json, sys, tarfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

def lines(path):
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as bundle:
            return bundle.extractfile("records.jsonl").readlines()
    return open(path, "rb").readlines()

def canonical(record):
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

trusted, first, seq, link, signed = sys.argv[1], None, 0, "0" * 64, 0
for line in (line for path in sys.argv[2:] for line in lines(path)):
    record = json.loads(line)
    expected = seq + 1 if first else int(record["seq"])
    first = first or expected
    if canonical(record) + b"\n" != line or record["seq"] != str(expected):
        sys.exit(f"record {expected} was changed, removed or moved")
    if record["prev"] != link and (seq or expected == 1):
        sys.exit(f"record {expected}, or the one before it, was changed")
    seq, link = expected, hashlib.sha256(line[:-1]).hexdigest()
    if record["kind"] == "checkpoint" or "signature" in record:
        signature = record.pop("signature")
        message = b"siglatch audit checkpoint 1" + bytes.fromhex(record.get("server", "00" * 16)) + canonical(record)
        if record["key"] != trusted or bytes.fromhex(signature).hex() != signature:
            sys.exit(f"record {seq} is not signed by the key that is trusted")
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted)).verify(bytes.fromhex(signature), message)
        signed = seq
print(f"whole: records {first} to {seq}, signed up to {signed}\nhead {seq}:{link}")

#!/usr/bin/env python3
"""Verifies a siglatch audit trail: verify_audit.py KEY FILE... (files in their order, or one bundle; see audit.md)"""
import hashlib, json, sys, tarfile, time
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

def lines(path):
    bundle = tarfile.is_tarfile(path)
    file = tarfile.open(path).extractfile("records.jsonl") if bundle else open(path, "rb")
    return iter(lambda: file.readline(65538), b"")

def canonical(record):
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

trusted, first, seq, link, signed, unsigned = sys.argv[1], None, 0, "0" * 64, 0, []
for line in (line for path in sys.argv[2:] for line in lines(path)):
    record = json.loads(line)
    expected = seq + 1 if first else int(record["seq"])
    first = first or expected
    if canonical(record) + b"\n" != line or record["seq"] != str(expected):
        sys.exit(f"record {expected} was changed, removed or moved")
    if record["prev"] != link and (seq or expected == 1):
        sys.exit(f"record {expected}, or one before it, was changed")
    seq, link = expected, hashlib.sha256(line[:-1]).hexdigest()
    unsigned.append(int(record["at"]) / 1000)
    if record["kind"] == "checkpoint" or "signature" in record:
        signature = record.pop("signature")
        message = b"siglatch audit checkpoint 1" + bytes.fromhex(record.get("server", "00" * 16)) + canonical(record)
        if record["key"] != trusted or bytes.fromhex(signature).hex() != signature:
            sys.exit(f"record {seq} is not signed by the key that is trusted")
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted)).verify(bytes.fromhex(signature), message)
        signed, unsigned = seq, []
took = (max(unsigned) if signed else time.time()) - min(unsigned) if unsigned else 0
if not seq or len(unsigned) > 15_000 or took > 660:  # more than siglatchd leaves, see audit.md
    print(f"not proven: {len(unsigned)} records up to {seq} are not signed")
    sys.exit(65)
print(f"whole: records {first} to {seq}, signed up to {signed}\nhead {seq}:{link}")
